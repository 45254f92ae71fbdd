"""The ranking reward: how well a score orders its video in the cohort, measured by Thurstone fidelity."""

import numpy as np
from scipy.special import ndtr

from rewards.reward import Answers, Groups
from rewards.settings import RewardSettings

NAME = "ranking"
WEIGHT = 1.0
DESCRIPTION = "how well a score orders its video among the others of the cohort."
EPS = 1e-6


def reward(answers: Answers, settings: RewardSettings) -> Groups:
    """Compute the ranking reward of a cohort."""
    return ranking_rewards(answers.scores, answers.mos, answers.comparable)


def group_moments(scores: np.ndarray) -> tuple[float, float]:
    """Return (mean, variance) of a group's parsed scores. The variance divides by n - 1; it is 0 for fewer
    than two scores. The mean is NaN if no score parses."""
    parsed = scores[np.isfinite(scores)]
    if parsed.size == 0:
        return np.nan, 0.0
    return float(parsed.mean()), float(parsed.var(ddof=1)) if parsed.size > 1 else 0.0


def ranking_rewards(
    groups: list[np.ndarray], mos: np.ndarray, comparable: np.ndarray | None = None
) -> list[np.ndarray]:
    """Compute the pairwise ranking reward of every completion of a cohort, as VQAThinker defines it.

    A completion of video i with score s is compared with each other video j that has a parsed score:
        p = Phi((s - mu_j) / sqrt(var_i + var_j + eps)), the probability that i is better
        g = 1, 1/2 or 0 if the label y_i is above, equal to or below y_j
        fidelity = sqrt(p g + eps) + sqrt((1 - p)(1 - g) + eps)
    The reward is the mean fidelity over j.

    Args:
        groups: K arrays of scores; NaN for completions that do not parse.
        mos: labels [K].
        comparable: bool [K, K], whether the labels of i and j share a scale; default: all do.
    Returns:
        K arrays with the shapes of `groups`, in [0.002, 1.001]; 0 if the completion does not parse, or i can
        be compared with no other video.
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
