"""Fit the monotonic four-parameter logistic curve that maps predictions to labels before PLCC and RMSE.

A model that ranks well may use the scale differently from human raters. The Video Quality Experts Group and
ITU-T P.1401 therefore map predictions to labels first. To reproduce published figures, the curve, its start
values and the solver are those in the published code of SimpleVQA, MinimalisticVQA and ModularBVQA. The
solver matters: if the best curve is a limiting case, such as a straight line, its tolerance affects the sixth
digit of PLCC.
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
    """No curve can be fitted. The message gives the reason."""


@dataclass(frozen=True, slots=True)
class LogisticFit:
    """The curve b2 + (b1 - b2) / (1 + exp(-(x - b3) / |b4|)). It runs from b2 at small x to b1 at large x."""

    b1: float
    b2: float
    b3: float
    b4: float

    def __call__(self, predicted: np.ndarray) -> np.ndarray:
        """Map predictions [n] to the scale of the labels; returns [n]."""
        return _curve(predicted, self.b1, self.b2, self.b3, self.b4)


def fit_logistic(predicted: np.ndarray, labels: np.ndarray, most_evaluations: int = 20_000) -> LogisticFit:
    """Fit the curve to predictions [n] and labels [n] by least squares.

    The search starts from the published values: b1 = maximum label, b2 = minimum label, b3 = mean prediction,
    b4 = 0.5.

    Args:
        most_evaluations: maximum number of evaluations of the curve.
    Raises:
        FitError: if there are too few videos, predictions or labels are constant, the search does not
            converge, or the fitted curve is flat, which leaves PLCC undefined.
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
    """Fit the curve to a resample, starting from `start`, the curve fitted to the whole set.

    The search has at most 200 evaluations. More would change an interval by less than its displayed
    precision, even if the best curve is a limiting case.

    Args:
        predicted, labels, counts: arrays [n] with the distinct predictions (at least PARAMETERS), and for
            each the mean and the number of its labels. The fit equals that to all labels individually.
    """
    return _least_squares(predicted, labels, start, _REFIT_EVALUATIONS, np.sqrt(counts))[0]


def _least_squares(
    predicted: np.ndarray,
    labels: np.ndarray,
    start: LogisticFit,
    most_evaluations: int,
    weights: np.ndarray | float = 1.0,
) -> tuple[LogisticFit, bool]:
    """Run the Levenberg-Marquardt search of scipy's `curve_fit`; returns (curve, whether it converged)."""
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
