"""Whether a model scores a video above its copy with the frames out of order, over many videos."""

from dataclasses import dataclass

import numpy as np

from evaluation.statistics.intervals import interval, resamples


@dataclass(frozen=True, slots=True)
class Consistency:
    """How often the clean version wins, with a 95 % interval bootstrapped over sources.

    Attributes:
        share: of the `clips`, how many are scored above their perturbed copies; a tie counts half.
        margin: mean of score minus the copy's score.
        left_out: clips beyond `clips`, of which one of the two has no score.
    """

    clips: int
    share: float
    low: float
    high: float
    ties: int
    margin: float
    left_out: int


def consistency(
    clean: np.ndarray, perturbed: np.ndarray, sources: np.ndarray, samples: int = 2000, seed: int = 0
) -> Consistency:
    """Compare scores [n] with those of the perturbed copies [n]; NaN where there is none."""
    wins = _wins(clean, perturbed)
    known = np.isfinite(wins)
    wins, sources = wins[known], sources[known]
    draws = [wins[rows].mean() for rows in resamples(sources, samples, seed)]
    low, high = interval(draws)
    return Consistency(
        clips=len(wins),
        share=float(wins.mean()) if len(wins) else np.nan,
        low=low,
        high=high,
        ties=int((wins == 0.5).sum()),
        margin=float((clean - perturbed)[known].mean()) if len(wins) else np.nan,
        left_out=int((~known).sum()),
    )


def consistency_gain(
    before: tuple[np.ndarray, np.ndarray],
    after: tuple[np.ndarray, np.ndarray],
    sources: np.ndarray,
    samples: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """(gain, low, high) of the share of another model on the same clips, each given as (clean, perturbed)
    scores [n]; clips that lack a score in either are left out. NaN if none is left."""
    gains = _wins(*after) - _wins(*before)
    known = np.isfinite(gains)
    gains, sources = gains[known], sources[known]
    if not len(gains):
        return np.nan, np.nan, np.nan
    return float(gains.mean()), *interval([gains[r].mean() for r in resamples(sources, samples, seed)])


def _wins(clean: np.ndarray, perturbed: np.ndarray) -> np.ndarray:
    """[n]: 1 where the clean score is higher, 1/2 where they are equal, 0 where it is lower, else NaN."""
    return 0.5 + 0.5 * np.sign(clean - perturbed)
