"""How much better than its group each completion did."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from learner.config import LearnerConfig


def group_advantages(rewards: Sequence[float] | np.ndarray, config: LearnerConfig) -> np.ndarray:
    """Advantages of one group: (r - mean) / (std + eps), std with n - 1 (VQAThinker), or
    (r - mean) / constant.

    Args:
        rewards: [G], total reward of each completion; unparsed answers have 0, not NaN.

    Returns:
        float64 [G]; all zero for a group of one or one whose rewards are all equal.

    Raises:
        ValueError: if a reward is not finite.
    """
    r = np.asarray(rewards, dtype=np.float64)
    if not np.isfinite(r).all():
        raise ValueError(f"rewards {r.tolist()} hold a value that is not finite; an unparsed answer earns 0")
    centred = r - r.mean() if r.size else r
    if r.size < 2 or np.ptp(r) == 0:
        return np.zeros_like(r)  # exactly: rounding in the mean must not be blown up by a tiny deviation
    if config.advantage_scale == "constant":
        return centred / config.advantage_constant
    return centred / (r.std(ddof=1) + config.advantage_eps)
