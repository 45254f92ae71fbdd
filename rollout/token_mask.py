"""The tokens that no completion may hold, as a part of vLLM's sampler. Runs inside vLLM's processes.

`SamplingParams.allowed_token_ids` would say the same, at the price of a list of the whole vocabulary with
every request (150,000 ids for Qwen-VL) and a mask row of its own.
"""

from typing import Any

import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor

CONFIG_KEY = "masked_token_ids"


class TokenMask(LogitsProcessor):
    """Sets the logits of `additional_config["masked_token_ids"]` to -inf, in greedy decoding too."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        ids = vllm_config.additional_config[CONFIG_KEY]
        self._masked = torch.tensor(ids, dtype=torch.long, device=device)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Mask `logits` [sequences, vocabulary] in place."""
        return logits.index_fill_(-1, self._masked, -torch.inf)

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Nothing to do: the mask is the same for every sequence."""
