"""Compute 95 % intervals of agreement by a bootstrap over the sources of the videos."""

from collections.abc import Iterator, Sequence

import numpy as np

from evaluation.statistics.correlation import plcc, srcc

_CONFIDENCE = 0.95


def bootstrap_ci(
    predicted: np.ndarray,
    mos: np.ndarray,
    groups: np.ndarray,
    samples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The 95 % percentile interval of SRCC, bootstrapped over groups; (NaN, NaN) for fewer than two groups.

    Clips of one source are not independent, so a resample draws whole sources.

    Args:
        predicted, mos, groups: arrays [n]; `groups` names the source of each video.
        samples, seed: number of resamples, and their seed.
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
    """Return (gain, low, high): the SRCC of `after` minus that of `before`, and its 95 % interval.

    Both are predictions [n] for the same videos. Resamples draw whole groups, as in bootstrap_ci.
    """

    def gain(rows: np.ndarray) -> float:
        return srcc(after[rows], mos[rows]) - srcc(before[rows], mos[rows])

    low, high = interval([gain(rows) for rows in resamples(groups, samples, seed)])
    return gain(np.arange(len(mos))), low, high


def unfitted_agreement(
    predicted: np.ndarray, mos: np.ndarray, groups: np.ndarray, samples: int = 2000, seed: int = 0
) -> dict[str, float]:
    """Compute SRCC with its 95 % interval, and PLCC without a fit, of the finite predictions.

    Args:
        predicted, mos, groups, samples, seed: as in bootstrap_ci.
    """
    known = np.isfinite(predicted)
    predicted, mos = predicted[known], mos[known]
    low, high = bootstrap_ci(predicted, mos, groups[known], samples, seed)
    return {"srcc": srcc(predicted, mos), "plcc": plcc(predicted, mos), "srcc_low": low, "srcc_high": high}


def resamples(groups: np.ndarray, samples: int, seed: int | Sequence[int]) -> Iterator[np.ndarray]:
    """Yield the row indices [m] of each bootstrap resample, which draws whole groups with replacement.

    The same groups and seed give the same indices. Yields nothing for fewer than two groups.
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
    """The 95 % percentile interval of a statistic's finite values in resamples; (NaN, NaN) without any."""
    values = np.asarray(draws, dtype=float)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.nan, np.nan
    tail = (1 - _CONFIDENCE) / 2
    return float(np.quantile(finite, tail)), float(np.quantile(finite, 1 - tail))
