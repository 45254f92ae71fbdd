"""Whether a video in order is judged at least as well as its perturbed copy."""

import numpy as np

_ROUNDING = 1e-9


def temporal_reward(
    ranking: np.ndarray,
    regression: np.ndarray,
    perturbed_ranking: np.ndarray,
    perturbed_regression: np.ndarray,
    bonus: float = 0.3,
    ranking_threshold: float = 0.5,
    regression_threshold: float = 0.9,
) -> np.ndarray:
    """The bonus of each completion of one video's clean group.

    For each of the two rewards by itself: if the clean group's mean (unparsed answers count as 0) is at least
    the perturbed group's, completions above the threshold earn `bonus` (VQAThinker, made per video).

    Args:
        ranking, regression: [G] rewards of the clean group.
        perturbed_ranking, perturbed_regression: rewards of the perturbed group, of any length.
    Returns:
        float64 [G], 0 to 2 * bonus.
    """
    earned = np.zeros(len(ranking))
    for clean, perturbed, threshold in (
        (ranking, perturbed_ranking, ranking_threshold),
        (regression, perturbed_regression, regression_threshold),
    ):
        if len(perturbed) and clean.mean() >= perturbed.mean() - _ROUNDING:
            earned += bonus * (clean > threshold)
    return earned
