"""The monotonic four-parameter logistic fit that precedes PLCC and RMSE.

A model that ranks well may use the scale differently from people. The Video Quality Experts Group and ITU-T
P.1401 therefore map predictions to labels first. Form, start values and solver are those of the published
code of SimpleVQA, MinimalisticVQA and ModularBVQA, for equal figures: where the best curve is a limit (such
as a straight line), the solver's tolerance affects the sixth digit of PLCC.
"""

from dataclasses import dataclass

import numpy as np
from scipy import optimize

FIT_NAME = "4-param logistic"
PARAMETERS = 4
_START_WIDTH = 0.5
_CONVERGED = (1, 2, 3, 4)
_REFIT_EVALUATIONS = 200
_FLAT = 1e-9


class FitError(ValueError):
    """No curve can be fitted; says why."""


@dataclass(frozen=True, slots=True)
class LogisticFit:
    """The curve b2 + (b1 - b2) / (1 + exp(-(x - b3) / |b4|)): from b2 at the left to b1 at the right."""

    b1: float
    b2: float
    b3: float
    b4: float

    def __call__(self, predicted: np.ndarray) -> np.ndarray:
        """Predictions [n] on the labels' scale, [n]."""
        return _curve(predicted, self.b1, self.b2, self.b3, self.b4)


def fit_logistic(predicted: np.ndarray, labels: np.ndarray, most_evaluations: int = 20_000) -> LogisticFit:
    """Fit the curve to predictions [n] and labels [n] by least squares.

    The search starts from the published values (max label, min label, mean prediction, 0.5).

    Args:
        most_evaluations: limit on evaluations of the curve.
    Raises:
        FitError: if there are too few videos, predictions or labels are constant, the search does not
            converge, or the curve is flat and so has no correlation.
    """
    if len(labels) <= PARAMETERS:
        raise FitError(f"{PARAMETERS} parameters need at least {PARAMETERS + 1} videos with a score")
    if np.ptp(predicted) == 0 or np.ptp(labels) == 0:
        raise FitError("constant predictions or labels have no curve")
    start = LogisticFit(labels.max(), labels.min(), predicted.mean(), _START_WIDTH)
    fit, converged = _least_squares(predicted, labels, start, most_evaluations)
    if not converged:
        raise FitError(f"did not converge within {most_evaluations} evaluations")
    if not np.ptp(fit(predicted)) > _FLAT * np.ptp(labels):
        raise FitError("the fitted curve is flat")
    return fit


def refit_logistic(
    predicted: np.ndarray, labels: np.ndarray, counts: np.ndarray, start: LogisticFit
) -> LogisticFit:
    """Fit the curve to a resample, from `start`, the curve of the whole set.

    The search is short: where the best curve is a limit, more steps change an interval by less than its shown
    precision.

    Args:
        predicted, labels, counts: arrays [n] of at least PARAMETERS distinct predictions, the mean label of
            each, and its number of labels. The curve equals that through all labels one by one.
    """
    return _least_squares(predicted, labels, start, _REFIT_EVALUATIONS, np.sqrt(counts))[0]


def _least_squares(
    predicted: np.ndarray,
    labels: np.ndarray,
    start: LogisticFit,
    most_evaluations: int,
    weights: np.ndarray | float = 1.0,
) -> tuple[LogisticFit, bool]:
    """(end of the Levenberg-Marquardt search, whether it converged), as in scipy's `curve_fit`."""
    with np.errstate(all="ignore"):
        parameters, _, _, _, status = optimize.leastsq(
            lambda b: weights * (_curve(predicted, *b) - labels),
            (start.b1, start.b2, start.b3, start.b4),
            full_output=True,
            maxfev=most_evaluations,
        )
    return LogisticFit(*(float(p) for p in parameters)), status in _CONVERGED


def _curve(x: np.ndarray, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
    with np.errstate(all="ignore"):
        return b2 + (b1 - b2) / (1 + np.exp(-(x - b3) / np.abs(b4)))
