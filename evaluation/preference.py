"""Which of two versions of a content a model prefers, from sampled scores; and over many contents."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr
from scipy.stats import binomtest

from evaluation.statistics.intervals import interval, resamples
from rewards.ranking import EPS, group_moments

FEWEST_SAMPLES = 2
"""Sampled scores of a version, below which it has no spread."""
NOT_CALIBRATED = (
    "Confidence follows from the spread of the sampled scores alone (Thurstone). It is not calibrated: it is "
    "not the probability that viewers agree."
)
_SAME = 1e-9


def confidence(first: Sequence[float], second: Sequence[float]) -> float:
    """How clearly the sampled scores of `first` exceed those of `second`: from 0 to 1, equal ones give 0.5.

        Phi((m1 - m2) / sqrt(s1^2 + s2^2 + eps)),    m: mean, s^2: variance with n - 1, eps = 1e-6

    This is Thurstone's law of comparative judgment with uncorrelated dispersions, each estimated from its own
    samples (L. L. Thurstone, "A law of comparative judgment", Psychological Review 34, 1927). With s1 = s2
    it is his case V, Phi((m1 - m2) / (s sqrt(2))). The ranking reward compares groups by the same formula.
    For normal scores it is the chance that one more answer about `first` exceeds one about `second`. The
    model's errors that all samples share are not in it.

    Raises:
        ValueError: for fewer than two scores of either.
    """
    if min(len(first), len(second)) < FEWEST_SAMPLES:
        raise ValueError(
            f"{len(first)} and {len(second)} sampled scores: each version needs {FEWEST_SAMPLES}"
        )
    (mean, variance), (other, others_variance) = (group_moments(np.array(s)) for s in (first, second))
    return float(ndtr((mean - other) / math.sqrt(variance + others_variance + EPS)))


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Differences of n pairs. `better`, `worse` and `same` count the pairs whose difference is above, below
    and equal to 0; `sign_test_p` is two-sided, of the first two, NaN if both are 0. `low` and `high` are the
    95 % interval of the mean, NaN for fewer than two pairs."""

    n: int
    better: int
    worse: int
    same: int
    sign_test_p: float
    mean: float
    low: float
    high: float


def same(difference: float) -> bool:
    """Whether a difference of means is only one of rounding."""
    return abs(difference) < _SAME


def paired_difference(differences: Sequence[float], samples: int = 2000, seed: int = 0) -> PairedDifference:
    """Sign test (pairs without a difference left out) and mean of the differences of pairs, with the
    percentile interval of a bootstrap over the pairs.

    Raises ValueError if there are none.
    """
    values = np.array(differences, dtype=float)
    if not len(values):
        raise ValueError("no pair has a difference")
    better, worse = int((values >= _SAME).sum()), int((values <= -_SAME).sum())
    decided = better + worse
    low, high = interval([values[rows].mean() for rows in resamples(np.arange(len(values)), samples, seed)])
    return PairedDifference(
        n=len(values),
        better=better,
        worse=worse,
        same=len(values) - decided,
        sign_test_p=float(binomtest(better, decided).pvalue) if decided else math.nan,
        mean=float(values.mean()),
        low=low,
        high=high,
    )
