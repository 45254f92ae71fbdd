"""Memory of completions' log-probs, in chunks and at once: `python -m benchmarks.logprob_memory`.

Forward and backward of the learner's output head, in a process of its own for each size: what the memory at
its highest lies above that of weight, inputs and their gradients, which any way of computing them needs.
"""

import argparse
import multiprocessing as mp
import os
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine, write_figures
from learner.zero import Device

HIDDEN = 64
TOKENS = (1024, 2048, 4096)
VOCABULARIES = (8192, 32768)


def rise_mb(tokens: int, vocabulary: int, chunk_tokens: int, device: Device) -> float:
    """Highest memory during forward and backward, over that before, in MB."""
    import torch

    from learner.policy import LogProbHead

    def head_of(vocabulary: int, chunk_tokens: int) -> LogProbHead:
        projection = torch.nn.Linear(HIDDEN, vocabulary, bias=False)
        return LogProbHead(projection, list(range(vocabulary)), vocabulary, 1.0, chunk_tokens).to(device)

    def backward(head: LogProbHead, hidden: torch.Tensor) -> None:
        targets = torch.randint(len(head.weight), (len(hidden),), device=device)
        head(hidden, targets)[0].sum().backward()

    # What torch imports when it first recomputes a chunk is not what is looked for.
    backward(head_of(8, 1), torch.randn(2, HIDDEN, device=device, requires_grad=True))
    head = head_of(vocabulary, chunk_tokens)
    hidden = torch.randn(tokens, HIDDEN, device=device, requires_grad=True)
    for tensor in (head.weight, hidden):
        tensor.grad = torch.zeros_like(tensor)
    before_mb = _from_here_mb(device)
    backward(head, hidden)
    return _peak_mb(device) - before_mb


def _from_here_mb(device: Device) -> float:
    """Forget earlier peaks; returns what is held."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")
    return _peak_mb(device)


def _peak_mb(device: Device) -> float:
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunk-tokens", type=int, default=256)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    # Else glibc keeps what small tensors leave behind, and the process holds more than its tensors.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    rows: list[dict[str, Any]] = []
    for vocabulary in VOCABULARIES:
        for tokens in TOKENS:
            row: dict[str, Any] = {"vocabulary": vocabulary, "tokens": tokens}
            for name, chunk in (("in chunks MB", arguments.chunk_tokens), ("at once MB", tokens)):
                with mp.get_context("spawn").Pool(1) as pool:
                    task = pool.apply_async(rise_mb, (tokens, vocabulary, chunk, arguments.device))
                    row[name] = round(task.get(600))
            rows.append(row)
    figures = {
        "machine": describe_machine(),
        "device": arguments.device,
        "chunk_tokens": arguments.chunk_tokens,
        "memory": rows,
    }
    write_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
