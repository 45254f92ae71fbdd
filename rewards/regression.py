"""The regression reward: a Gaussian of the distance between score and label."""

import numpy as np

from rewards.reward import Answers, Groups
from rewards.settings import RewardSettings

NAME = "regression"
WEIGHT = 1.0
DESCRIPTION = "a Gaussian around the MOS."
NEEDS_SCALE = True


def reward(answers: Answers, settings: RewardSettings) -> Groups:
    """Compute the regression reward of a cohort; 0 for videos whose label is rank-only."""
    return [
        np.zeros(len(scores))
        if rank_only
        else regression_reward(scores, decimals, mos, settings.sigma, settings.short_answer_factor)
        for scores, decimals, mos, rank_only in zip(
            answers.scores, answers.decimals, answers.mos, answers.rank_only, strict=True
        )
    ]


def regression_reward(
    scores: np.ndarray,
    decimals: np.ndarray,
    mos: float | np.ndarray,
    sigma: float = 0.5,
    short_answer_factor: float = 0.8,
) -> np.ndarray:
    """Compute VQAThinker's bell-shaped regression reward, exp(-(s - y)^2 / (2 sigma^2)).

    It is multiplied by `short_answer_factor` for scores written with fewer than two decimals.

    Args:
        scores: array of any shape; NaN for completions that do not parse.
        decimals: same shape; the number of decimals of each score in the text.
        mos: label, broadcast against `scores`.
    Returns:
        float64 of the same shape, in [0, 1]; 0 for completions that do not parse.
    """
    bell = np.exp(-((scores - mos) ** 2) / (2 * sigma**2))
    factor = np.where(np.asarray(decimals) < 2, short_answer_factor, 1.0)
    return np.nan_to_num(bell * factor, nan=0.0)
