"""Measure how well one model's predictions agree with the labels of one test set, with 95 % intervals.

SRCC and KRCC are computed from the raw predictions. PLCC and RMSE are computed twice: from the raw
predictions, and after the four-parameter logistic fit. An undefined figure is NaN, and a note gives the
reason.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.statistics.correlation import krcc, plcc, rmse, srcc, why_undefined
from evaluation.statistics.intervals import interval, resamples
from evaluation.statistics.logistic_fit import (
    FIT_NAME,
    PARAMETERS,
    FitError,
    LogisticFit,
    fit_logistic,
    refit_logistic,
)

CORRELATIONS = ("srcc", "krcc", "plcc_raw", "plcc_fitted")
ERRORS = ("rmse_raw", "rmse_fitted")
NAMES = {
    "srcc": "SRCC",
    "krcc": "KRCC",
    "plcc_raw": "PLCC raw",
    "plcc_fitted": f"PLCC {FIT_NAME}",
    "rmse_raw": "RMSE raw",
    "rmse_fitted": f"RMSE {FIT_NAME}",
}
"""The display name of each figure."""
_ENOUGH_DRAWS = 0.95
_SAME = 1e-6


@dataclass(frozen=True, slots=True)
class Scale:
    """The scale of a test set's original labels: `low` is the label for MOS 1, `high` the label for MOS 5.
    `low` is larger than `high` if large labels mean bad quality."""

    low: float = 1.0
    high: float = 5.0

    def of_mos(self, mos: np.ndarray) -> np.ndarray:
        """Map scores [n], from 1 to 5, to this scale."""
        return self.low + (mos - 1) / 4 * (self.high - self.low)


@dataclass(frozen=True, slots=True)
class Figures:
    """The agreement of `n` scores with their labels.

    `values` holds each figure of CORRELATIONS and ERRORS, `intervals` its (low, high), and `draws` its value
    in every resample [samples]. `notes` explain undefined figures and doubtful fits.
    """

    n: int
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    draws: Mapping[str, np.ndarray]
    fit: LogisticFit | None
    notes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference in a figure between two models on the same videos, with its paired 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval excludes 0; False if there is no interval."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Average:
    """A correlation's mean over test sets; NaN if it is undefined on every set.

    `draws` holds the mean in every resample [samples]. `missing` lists the sets left out because the
    correlation is undefined there.
    """

    value: float
    draws: np.ndarray
    missing: Sequence[str]

    @property
    def interval(self) -> tuple[float, float]:
        return interval(self.draws)


def measure_agreement(
    predicted: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    scale: Scale | None = None,
    *,
    rank_only: bool = False,
    samples: int = 2000,
    seed: int | Sequence[int] = 0,
) -> Figures:
    """Compute all figures of predictions [n], from 1 to 5, against labels [n] on `scale`.

    Intervals are bootstrapped over `groups` [n], the sources of the videos. All figures use the same
    resamples. The logistic curve is refitted to each resample, starting from the curve of the whole set.

    Args:
        scale: scale of the labels; default: 1 to 5.
        rank_only: the labels support only ranking, so PLCC and RMSE are undefined.
        samples, seed: number of resamples, and their seed.
    """
    scale = scale or Scale()
    # Negate both predictions and labels if large labels mean bad quality: no figure changes.
    sign = 1.0 if scale.high >= scale.low else -1.0
    rising = sign * labels
    on_scale = sign * scale.of_mos(predicted)
    values, fit, notes = _of_the_set(predicted, rising, on_scale, rank_only)
    draws = _draws(predicted, rising, on_scale, fit, resamples(groups, samples, seed))
    for name in NAMES:
        if not np.isfinite(values[name]):
            draws[name] = np.full_like(draws[name], np.nan)
    return Figures(
        n=len(labels),
        values=values,
        intervals={name: interval(drawn) for name, drawn in draws.items()},
        draws=draws,
        fit=None if fit is None else LogisticFit(sign * fit.b1, sign * fit.b2, fit.b3, fit.b4),
        notes=notes | _interval_notes(values, draws),
    )


def difference(before: Figures, after: Figures) -> dict[str, Difference]:
    """Compute `after` minus `before` for each figure.

    Both must use the same videos in the same order and the same seed, so that resample i of both has the same
    videos.
    """
    return {
        name: _difference(before.values[name], after.values[name], before.draws[name], after.draws[name])
        for name in NAMES
    }


def average(sets: Mapping[str, Figures], name: str, weighted: bool) -> Average:
    """Average a correlation over test sets, plain or weighted by their numbers of videos.

    Resample i of the mean is the mean of resample i of every set, so each set needs a different seed.
    """
    known = {s: f for s, f in sets.items() if np.isfinite(f.values[name])}
    missing = [s for s in sets if s not in known]
    if not known:
        return Average(np.nan, np.empty(0), missing)
    weights = [f.n if weighted else 1 for f in known.values()]
    draws = [f.draws[name] for f in known.values()]
    if any(len(drawn) == 0 for drawn in draws):  # a set whose videos all have one source has no resamples
        drawn_means = np.empty(0)
    else:
        drawn_means = np.average(draws, axis=0, weights=weights)
    value = np.average([f.values[name] for f in known.values()], weights=weights)
    return Average(float(value), drawn_means, missing)


def average_difference(before: Average, after: Average) -> Difference:
    """Compute `after` minus `before`, two models' means over sets; NaN if they leave out different sets."""
    if before.missing != after.missing:
        return Difference(np.nan, np.nan, np.nan)
    return _difference(before.value, after.value, before.draws, after.draws)


def _difference(before: float, after: float, before_draws: np.ndarray, after_draws: np.ndarray) -> Difference:
    return Difference(after - before, *interval(after_draws - before_draws))


def _of_the_set(
    predicted: np.ndarray, labels: np.ndarray, on_scale: np.ndarray, rank_only: bool
) -> tuple[dict[str, float], LogisticFit | None, dict[str, str]]:
    """Compute (values, fit, notes) of the whole set. All arrays are [n]; `on_scale` holds the predictions on
    the scale of the labels."""
    values = dict.fromkeys((*CORRELATIONS, *ERRORS), np.nan)
    values |= {"srcc": srcc(predicted, labels), "krcc": krcc(predicted, labels)}
    why = why_undefined(predicted, labels)
    notes = {"correlations": why} if why else {}
    if rank_only:
        return values, None, notes | {"PLCC, RMSE": "the labels are for ranking only (rank_only)"}
    values["plcc_raw"] = plcc(predicted, labels)
    if np.all((predicted >= 1) & (predicted <= 5)):
        values["rmse_raw"] = rmse(on_scale, labels)
    else:
        notes[NAMES["rmse_raw"]] = "scores outside 1 to 5 cannot be mapped to the scale of the labels"
    if why:
        return values, None, notes
    try:
        fit = fit_logistic(predicted, labels)
    except FitError as error:
        return values, None, notes | {FIT_NAME: str(error)}
    fitted = fit(predicted)
    values |= {"plcc_fitted": plcc(fitted, labels), "rmse_fitted": rmse(fitted, labels)}
    if fit.b1 < fit.b2:
        notes[FIT_NAME] = "the curve falls: predictions oppose the labels, which the fitted PLCC hides"
    elif values["plcc_fitted"] < values["plcc_raw"] - _SAME:
        notes[FIT_NAME] = "converged to a curve worse than a straight line"
    return values, fit, notes


def _draws(
    predicted: np.ndarray,
    labels: np.ndarray,
    on_scale: np.ndarray,
    fit: LogisticFit | None,
    resampled_rows: Iterable[np.ndarray],
) -> dict[str, np.ndarray]:
    """Compute the value of each figure in every resample, as arrays [samples]."""
    drawn: dict[str, list[float]] = {name: [] for name in NAMES}
    # Replace values by integer codes in sorted order, so that ranking a resample needs no sorting.
    distinct, codes_x = np.unique(predicted, return_inverse=True)
    _, codes_y = np.unique(labels, return_inverse=True)
    for rows in resampled_rows:
        cx, cy, y = codes_x[rows], codes_y[rows], labels[rows]
        fitted = np.full(len(y), np.nan) if fit is None else _refitted(distinct, cx, y, fit)
        drawn["srcc"].append(plcc(_ranks(cx), _ranks(cy)))
        drawn["krcc"].append(krcc(cx, cy))
        drawn["plcc_raw"].append(plcc(predicted[rows], y))
        drawn["plcc_fitted"].append(plcc(fitted, y) if np.isfinite(fitted).all() else np.nan)
        drawn["rmse_raw"].append(rmse(on_scale[rows], y))
        drawn["rmse_fitted"].append(rmse(fitted, y))
    return {name: np.array(values) for name, values in drawn.items()}


def _ranks(codes: np.ndarray) -> np.ndarray:
    """Ranks [n] of non-negative integers [n]; ties get their mean rank. SRCC is the PLCC of the ranks."""
    counts = np.bincount(codes)
    return (np.cumsum(counts) - (counts - 1) / 2)[codes]


def _refitted(distinct: np.ndarray, codes: np.ndarray, labels: np.ndarray, start: LogisticFit) -> np.ndarray:
    """Map the predictions `distinct[codes]` [n] by a curve fitted to the labels [n], starting from `start`.

    Returns NaN [n] if there are fewer than PARAMETERS distinct predictions.
    """
    counts = np.bincount(codes, minlength=len(distinct))
    drawn = counts > 0
    if drawn.sum() < PARAMETERS:
        return np.full(len(codes), np.nan)
    means = np.bincount(codes, weights=labels, minlength=len(distinct))[drawn] / counts[drawn]
    return refit_logistic(distinct[drawn], means, counts[drawn], start)(distinct)[codes]


def _interval_notes(values: Mapping[str, float], draws: Mapping[str, np.ndarray]) -> dict[str, str]:
    known = {name: drawn for name, drawn in draws.items() if np.isfinite(values[name])}
    if any(len(drawn) == 0 for name, drawn in known.items() if name in CORRELATIONS):
        return {"intervals": "all videos are of one source, so nothing can be resampled"}
    finite = {name: np.isfinite(drawn).sum() for name, drawn in known.items()}
    return {
        f"interval of {NAMES[name]}": f"from {n} of {len(known[name])} resamples; undefined in the others"
        for name, n in finite.items()
        if n < _ENOUGH_DRAWS * len(known[name])
    }
