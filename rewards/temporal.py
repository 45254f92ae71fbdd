"""The temporal reward: a bonus if a video earns at least as much as its copy with perturbed frame order."""

import numpy as np

from rewards.reward import Answers, Groups
from rewards.settings import RewardSettings

NAME = "temporal"
WEIGHT = 1.0
DESCRIPTION = (
    "a bonus for scoring the clean copy at least as well as the perturbed copy. "
    "With weight 0, no perturbed copies are sampled."
)
NEEDS = ("ranking", "regression")
NEEDS_PERTURBED = True
_ROUNDING = 1e-9


def reward(answers: Answers, settings: RewardSettings) -> Groups:
    """Compute the temporal reward of a cohort; 0 for videos without a perturbed copy."""
    assert answers.perturbed is not None
    clean, perturbed = answers.rewards, answers.perturbed.rewards
    return [
        temporal_reward(
            ranking,
            regression,
            perturbed_ranking,
            perturbed_regression,
            settings.temporal_bonus,
            settings.temporal_ranking_threshold,
            settings.temporal_regression_threshold,
        )
        for ranking, regression, perturbed_ranking, perturbed_regression in zip(
            clean["ranking"],
            clean["regression"],
            perturbed["ranking"],
            perturbed["regression"],
            strict=True,
        )
    ]


def temporal_reward(
    ranking: np.ndarray,
    regression: np.ndarray,
    perturbed_ranking: np.ndarray,
    perturbed_regression: np.ndarray,
    bonus: float = 0.3,
    ranking_threshold: float = 0.5,
    regression_threshold: float = 0.9,
) -> np.ndarray:
    """Compute the bonus of each completion of one video's clean group.

    The two rewards, ranking and regression, are treated separately: if the clean group's mean is at least the
    perturbed group's, completions above the threshold earn `bonus`. Answers that do not parse count as 0.
    This is VQAThinker's temporal reward, applied per video.

    Args:
        ranking, regression: rewards [G] of the clean group.
        perturbed_ranking, perturbed_regression: rewards of the perturbed group, of any length.
    Returns:
        float64 [G], from 0 to 2 * bonus.
    """
    earned = np.zeros(len(ranking))
    for clean, perturbed, threshold in (
        (ranking, perturbed_ranking, ranking_threshold),
        (regression, perturbed_regression, regression_threshold),
    ):
        if len(perturbed) and clean.mean() >= perturbed.mean() - _ROUNDING:
            earned += bonus * (clean > threshold)
    return earned
