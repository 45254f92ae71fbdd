"""What of an adapter's change survives in a merged bfloat16 weight: `python -m benchmarks.adapter_rounding`.

A matrix of InternVL3-2B's width and spread, an adapter of rank 16 as peft starts it, and after k updates of
AdamW whose steps all have the sign of the first, so that this is the most that can arrive. Takes seconds.
"""

import math

import torch

WIDTH, SPREAD, RANK, SCALE = 1536, 0.02, 16, 2.0
RATES = (1e-5, 1e-4)
UPDATES = (1, 5, 20, 50, 100)


def share_that_arrives(rate: float, updates: int) -> float:
    """Of the change that the adapter makes, the part that the rounded weight has, along its direction."""
    torch.manual_seed(0)
    weight = (SPREAD * torch.randn(WIDTH, WIDTH)).bfloat16().float()
    bound = 1 / math.sqrt(WIDTH)  # of kaiming_uniform with a = sqrt(5)
    down = torch.empty(RANK, WIDTH).uniform_(-bound, bound)
    up = rate * updates * torch.randn(WIDTH, RANK).sign()
    change = SCALE * up @ down
    arrived = (weight + change).bfloat16().float() - weight
    return float((arrived * change).sum() / (change * change).sum())


def main() -> None:
    for rate in RATES:
        shares = (f"{k}: {share_that_arrives(rate, k):.0%}" for k in UPDATES)
        print(f"updates of {rate:g}, share that arrives after k of them: {', '.join(shares)}")


if __name__ == "__main__":
    main()
