"""Compute correlations and RMSE between predictions and mean opinion scores (MOS).

A correlation is NaN for two videos or fewer, and for constant predictions or labels; `why_undefined` gives
the reason.
"""

import warnings
from collections.abc import Callable

import numpy as np
from scipy import stats

_FEWEST = 3


def srcc(predicted: np.ndarray, mos: np.ndarray) -> float:
    """Spearman's rank correlation of two arrays [n]."""
    return _correlation(stats.spearmanr, predicted, mos)


def plcc(predicted: np.ndarray, mos: np.ndarray) -> float:
    """Pearson's linear correlation of two arrays [n], without a fit."""
    return _correlation(stats.pearsonr, predicted, mos)


def krcc(predicted: np.ndarray, mos: np.ndarray) -> float:
    """Kendall's rank correlation (tau-b) of two arrays [n]."""
    return _correlation(stats.kendalltau, predicted, mos)


def rmse(predicted: np.ndarray, mos: np.ndarray) -> float:
    """Root mean squared error of two arrays [n]; NaN if they are empty."""
    return float(np.sqrt(np.mean((predicted - mos) ** 2))) if len(mos) else np.nan


def why_undefined(predicted: np.ndarray, mos: np.ndarray) -> str:
    """The reason why two arrays [n] have no correlation; empty if they have one."""
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
