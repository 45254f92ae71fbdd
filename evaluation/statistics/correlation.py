"""Agreement of predictions with mean opinion scores (MOS), and its bootstrap intervals.

With two videos or fewer, or constant predictions or labels, a correlation is NaN, and `why_undefined` says
why.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy import stats

_CONFIDENCE = 0.95
_FEWEST = 3


def srcc(predicted: np.ndarray, mos: np.ndarray) -> float:
    """Spearman's rank correlation of two arrays [n]."""
    return _correlation(stats.spearmanr, predicted, mos)


def plcc(predicted: np.ndarray, mos: np.ndarray) -> float:
    """Pearson's linear correlation of two arrays [n], without a fit."""
    return _correlation(stats.pearsonr, predicted, mos)


def krcc(predicted: np.ndarray, mos: np.ndarray) -> float:
    """Kendall's rank correlation, tau-b."""
    return _correlation(stats.kendalltau, predicted, mos)


def rmse(predicted: np.ndarray, mos: np.ndarray) -> float:
    """Root mean squared error of two arrays [n]; NaN if they are empty."""
    return float(np.sqrt(np.mean((predicted - mos) ** 2))) if len(mos) else np.nan


def bootstrap_ci(
    predicted: np.ndarray,
    mos: np.ndarray,
    groups: np.ndarray,
    samples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The 95 % percentile interval of SRCC, bootstrapped over groups.

    Clips of one source are not independent, so whole sources are drawn. (NaN, NaN) with fewer than two
    groups.

    Args:
        predicted, mos, groups: arrays [n]; `groups` names the source of each video.
    """
    return interval([srcc(predicted[rows], mos[rows]) for rows in resamples(groups, samples, seed)])


def paired_bootstrap(
    before: np.ndarray,
    after: np.ndarray,
    mos: np.ndarray,
    groups: np.ndarray,
    samples: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """(gain, low, high) of the SRCC of `after` over that of `before` on the same videos."""

    def gain(rows: np.ndarray) -> float:
        return srcc(after[rows], mos[rows]) - srcc(before[rows], mos[rows])

    low, high = interval([gain(rows) for rows in resamples(groups, samples, seed)])
    return gain(np.arange(len(mos))), low, high


def unfitted_agreement(
    predicted: np.ndarray, mos: np.ndarray, groups: np.ndarray, samples: int = 2000, seed: int = 0
) -> dict[str, float]:
    """SRCC with its 95 % interval, and PLCC without a fit, of the predictions that are not NaN.

    Args:
        predicted, mos, groups, samples, seed: as in bootstrap_ci.
    """
    known = np.isfinite(predicted)
    predicted, mos = predicted[known], mos[known]
    low, high = bootstrap_ci(predicted, mos, groups[known], samples, seed)
    return {"srcc": srcc(predicted, mos), "plcc": plcc(predicted, mos), "srcc_low": low, "srcc_high": high}


def resamples(groups: np.ndarray, samples: int, seed: int | Sequence[int]) -> Iterator[np.ndarray]:
    """Yield the rows [n'] of each bootstrap resample, which draws whole groups with replacement.

    The same groups and seed give the same rows. Yields nothing with fewer than two groups.
    """
    _, group_of_row, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        return
    rows_by_group = np.argsort(group_of_row, kind="stable")
    first = np.cumsum(sizes) - sizes
    rng = np.random.default_rng(seed)
    for _ in range(samples):
        draw = rng.integers(0, len(sizes), len(sizes))
        drawn = sizes[draw]
        skipped = first[draw] - (np.cumsum(drawn) - drawn)
        yield rows_by_group[np.arange(drawn.sum()) + np.repeat(skipped, drawn)]


def interval(draws: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic's resampled values; (NaN, NaN) if none is finite."""
    values = np.asarray(draws, dtype=float)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.nan, np.nan
    tail = (1 - _CONFIDENCE) / 2
    return float(np.quantile(finite, tail)), float(np.quantile(finite, 1 - tail))


def why_undefined(predicted: np.ndarray, mos: np.ndarray) -> str:
    """Why two arrays [n] have no correlation; empty if they have one."""
    if len(mos) == 0:
        return "no video has a score"
    if len(mos) < _FEWEST:
        return f"{len(mos)} {'video has' if len(mos) == 1 else 'videos have'} a score, {_FEWEST} are needed"
    for what, values in (("prediction", predicted), ("label", mos)):
        if np.ptp(values) == 0:
            return f"every {what} is {values[0]:g}"
    return ""


def _correlation(
    function: Callable[[np.ndarray, np.ndarray], tuple[float, float]], predicted: np.ndarray, mos: np.ndarray
) -> float:
    if why_undefined(predicted, mos):
        return np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        return float(function(predicted, mos)[0])
