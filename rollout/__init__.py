"""vLLM engines behind Ray actors that sample groups of completions for videos."""
