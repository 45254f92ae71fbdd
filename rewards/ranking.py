"""Whether a score puts its video on the right side of the others: Thurstone fidelity over a cohort."""

import numpy as np
from scipy.special import ndtr

from rewards.reward import Answers, Groups
from rewards.settings import RewardSettings

NAME = "ranking"
WEIGHT = 1.0
DESCRIPTION = "how well a score orders its video among the others of the cohort."
EPS = 1e-6


def reward(answers: Answers, settings: RewardSettings) -> Groups:
    """The ranking reward of a cohort."""
    return ranking_rewards(answers.scores, answers.mos, answers.comparable)


def group_moments(scores: np.ndarray) -> tuple[float, float]:
    """(mean, variance with n - 1) of a group's parsed scores; NaN mean if none parsed, variance 0 of one."""
    parsed = scores[np.isfinite(scores)]
    if parsed.size == 0:
        return np.nan, 0.0
    return float(parsed.mean()), float(parsed.var(ddof=1)) if parsed.size > 1 else 0.0


def ranking_rewards(
    groups: list[np.ndarray], mos: np.ndarray, comparable: np.ndarray | None = None
) -> list[np.ndarray]:
    """The pairwise ranking reward of every completion of a cohort.

    For a completion of video i with score s, against each other video j of which a score was parsed:
    p = Phi((s - mu_j) / sqrt(var_i + var_j + eps)), g = 1, 1/2 or 0 as y_i is above, equal to or below y_j,
    fidelity sqrt(p g + eps) + sqrt((1 - p)(1 - g) + eps); the reward is the mean over j (VQAThinker).

    Args:
        groups: K arrays of scores, NaN where nothing was parsed.
        mos: [K] labels.
        comparable: bool [K, K], whether i and j share a scale; all of them by default.
    Returns:
        K arrays like `groups`, in [0.002, 1.001]; 0 where nothing was parsed or i has no opponent.
    """
    count = len(groups)
    if comparable is None:
        comparable = np.ones((count, count), dtype=bool)
    moments = [group_moments(scores) for scores in groups]
    mean = np.array([m for m, _ in moments])
    variance = np.array([v for _, v in moments])
    opponents = comparable & np.isfinite(mean)[None, :] & ~np.eye(count, dtype=bool)
    better = 0.5 + 0.5 * np.sign(mos[:, None] - mos[None, :])
    rewards = []
    for i, scores in enumerate(groups):
        others = np.flatnonzero(opponents[i])
        if others.size == 0:
            rewards.append(np.zeros(len(scores)))
            continue
        spread = np.sqrt(variance[i] + variance[others] + EPS)
        wins = ndtr((scores[:, None] - mean[others]) / spread)
        expected = better[i, others]
        fidelity = np.sqrt(wins * expected + EPS) + np.sqrt((1 - wins) * (1 - expected) + EPS)
        rewards.append(np.nan_to_num(fidelity.mean(axis=1), nan=0.0))
    return rewards
