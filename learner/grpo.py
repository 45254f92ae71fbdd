"""The GRPO loss on flat arrays of completion tokens. Pure: independent of models and ranks.

Each token has three log-probs: `logprobs` under the policy being trained; `old` under the trainer's policy
before the first optimizer step of the update; `engine` under the distribution that it was sampled from. The
clipped ratio is exp(logprobs - old). The truncated importance weight min(exp(old - engine), C) corrects every
difference between `old` and `engine`, staleness included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from learner.config import LearnerConfig


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Completion tokens. All tensors have shape [N]; only `logprobs` has a gradient.

    `advantages` repeats each completion's advantage for each of its tokens. `weights` comes from
    `token_weights`. `reference` is None if there is no KL term.
    """

    logprobs: Tensor
    old: Tensor
    engine: Tensor
    reference: Tensor | None
    advantages: Tensor
    weights: Tensor


@dataclass(frozen=True, slots=True)
class LossSums:
    """Sums over the tokens of one micro-batch, to be added over micro-batches and ranks. `importance_max` is
    a maximum instead."""

    loss: float
    kl_to_base: float
    mismatch_kl: float
    clipped: float
    importance: float
    importance_max: float


def token_weights(
    lengths: Sequence[int], loss_mean: str, completions: int, tokens: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Return token weights such that the loss summed over all micro-batches and ranks is the global mean.

    Args:
        lengths: token counts of this micro-batch's completions.
        loss_mean: "sequence": mean over completions of the mean over their tokens; "token": mean over all
            tokens.
        completions: number of completions in the whole update.
        tokens: number of completion tokens in the whole update.

    Returns:
        float32 [sum(lengths)].
    """
    n = torch.tensor(list(lengths), dtype=torch.float64)
    per_token = 1 / (n * completions) if loss_mean == "sequence" else torch.full_like(n, 1 / tokens)
    return per_token.repeat_interleave(n.long()).float().to(device)


def k3(log_ratio: Tensor) -> Tensor:
    """Return Schulman's k3 estimate of KL(q || p), never negative. `log_ratio` is log p - log q at samples of
    q."""
    return log_ratio.exp() - log_ratio - 1


def grpo_loss(batch: TokenBatch, config: LearnerConfig) -> tuple[Tensor, LossSums]:
    """Compute the weighted sum over tokens of -min(ratio A, clip(ratio) A) w + beta k3.

    Args:
        batch: tokens of one micro-batch.
        config: provides `clip_low`, `clip_high`, `importance_cap` (C) and `kl_coefficient` (beta).

    Returns:
        this micro-batch's scalar summand of the update's loss, and sums for metrics.
    """
    ratio = (batch.logprobs - batch.old).exp()
    clipped = ratio.clamp(1 - config.clip_low, 1 + config.clip_high)
    gain = torch.minimum(ratio * batch.advantages, clipped * batch.advantages)
    importance = (batch.old - batch.engine).exp().clamp(max=config.importance_cap)
    per_token = -importance * gain
    kl = torch.zeros_like(batch.old)
    if batch.reference is not None:
        kl = k3(batch.reference - batch.logprobs)
        per_token = per_token + config.kl_coefficient * kl
    loss = (batch.weights * per_token).sum()
    with torch.no_grad():
        outside = torch.where(
            batch.advantages > 0, ratio > 1 + config.clip_high, ratio < 1 - config.clip_low
        ) & (batch.advantages != 0)
        sums = LossSums(
            loss=float(loss),
            kl_to_base=float(kl.sum()),
            mismatch_kl=float(k3(batch.old - batch.engine).sum()),
            clipped=float(outside.sum()),
            importance=float(importance.sum()),
            importance_max=float(importance.max()) if len(importance) else 0.0,
        )
    return loss, sums


def learning_rate(update: int, config: LearnerConfig, total_updates: int) -> float:
    """Return the learning rate of update number `update` (from 0): linear warm-up, then a cosine that reaches
    `min_lr_ratio` times the peak at the last update."""
    if update < config.warmup_updates:
        return config.lr * (update + 1) / config.warmup_updates
    span = max(1, total_updates - 1 - config.warmup_updates)
    progress = min(1.0, (update - config.warmup_updates) / span)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return config.lr * (config.min_lr_ratio + (1 - config.min_lr_ratio) * cosine)


def group_advantages(rewards: Sequence[float] | np.ndarray, config: LearnerConfig) -> np.ndarray:
    """Compute the advantages of one group: (r - mean) / (std + eps) with the n - 1 standard deviation
    (VQAThinker), or (r - mean) / constant.

    Args:
        rewards: [G], total reward of each completion; unparsed answers have 0, not NaN.

    Returns:
        float64 [G]; all zero for a group with one completion or with equal rewards.

    Raises:
        ValueError: if a reward is not finite.
    """
    r = np.asarray(rewards, dtype=np.float64)
    if not np.isfinite(r).all():
        raise ValueError(f"rewards {r.tolist()} hold a value that is not finite; an unparsed answer earns 0")
    centred = r - r.mean() if r.size else r
    if r.size < 2 or np.ptp(r) == 0:
        return np.zeros_like(r)  # exact zeros: a tiny std would amplify the rounding error of the mean
    if config.advantage_scale == "constant":
        return centred / config.advantage_constant
    return centred / (r.std(ddof=1) + config.advantage_eps)
