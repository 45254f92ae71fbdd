"""How well predictions agree with mean opinion scores. scipy does the statistics.

Two videos or fewer, and constant predictions or labels, have no correlation: it is NaN.
"""

import warnings
from collections.abc import Callable

import numpy as np
from scipy import stats

Statistic = Callable[[np.ndarray, np.ndarray], float]
_CONFIDENCE = 0.95


def srcc(predicted: np.ndarray, mos: np.ndarray) -> float:
    """Spearman's rank correlation of two arrays [n]."""
    return _correlation(stats.spearmanr, predicted, mos)


def plcc(predicted: np.ndarray, mos: np.ndarray) -> float:
    """Pearson's linear correlation of the raw predictions; nothing is fitted."""
    return _correlation(stats.pearsonr, predicted, mos)


def krcc(predicted: np.ndarray, mos: np.ndarray) -> float:
    """Kendall's rank correlation, tau-b."""
    return _correlation(stats.kendalltau, predicted, mos)


def rmse(predicted: np.ndarray, mos: np.ndarray) -> float:
    """Root mean squared error; NaN of nothing."""
    return float(np.sqrt(np.mean((predicted - mos) ** 2))) if len(mos) else np.nan


def bootstrap_ci(
    predicted: np.ndarray,
    mos: np.ndarray,
    groups: np.ndarray,
    samples: int = 2000,
    seed: int = 0,
    statistic: Statistic = srcc,
) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic, resampled over groups.

    Clips cut from one source are no independent draws, so whole sources are drawn. (NaN, NaN) with fewer
    than two groups.

    Args:
        predicted, mos, groups: arrays [n]; `groups` names the source of each video.
    """
    draws = _resampled(groups, samples, seed, lambda rows: statistic(predicted[rows], mos[rows]))
    return _interval(draws)


def paired_bootstrap(
    before: np.ndarray,
    after: np.ndarray,
    mos: np.ndarray,
    groups: np.ndarray,
    samples: int = 2000,
    seed: int = 0,
    statistic: Statistic = srcc,
) -> tuple[float, float, float]:
    """(gain, low, high) of `after` over `before` on the same videos, resampled over groups."""

    def gain(rows: np.ndarray) -> float:
        return statistic(after[rows], mos[rows]) - statistic(before[rows], mos[rows])

    low, high = _interval(_resampled(groups, samples, seed, gain))
    return gain(np.arange(len(mos))), low, high


def _resampled(
    groups: np.ndarray, samples: int, seed: int, statistic: Callable[[np.ndarray], float]
) -> np.ndarray:
    names = np.unique(groups)
    if len(names) < 2:
        return np.array([])
    rows = [np.flatnonzero(groups == name) for name in names]
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(names), (samples, len(names)))
    return np.array([statistic(np.concatenate([rows[i] for i in draw])) for draw in draws])


def _interval(draws: np.ndarray) -> tuple[float, float]:
    finite = draws[np.isfinite(draws)]
    if finite.size == 0:
        return np.nan, np.nan
    tail = (1 - _CONFIDENCE) / 2
    return float(np.quantile(finite, tail)), float(np.quantile(finite, 1 - tail))


def _correlation(
    function: Callable[[np.ndarray, np.ndarray], tuple[float, float]], predicted: np.ndarray, mos: np.ndarray
) -> float:
    if len(mos) < 3 or np.ptp(predicted) == 0 or np.ptp(mos) == 0:
        return np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        return float(function(predicted, mos)[0])
