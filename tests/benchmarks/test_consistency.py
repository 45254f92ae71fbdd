"""The share of clips that are scored above their perturbed copies."""

import math

import numpy as np
import pytest

from benchmarks.order_consistency import consistency, consistency_gain

SOURCES = np.array(["a", "a", "b", "b", "c"])
CLEAN = np.array([3.0, 2.0, 4.0, 1.0, np.nan])
PERTURBED = np.array([2.0, 2.0, 4.5, 0.5, 3.0])


def test_by_hand() -> None:
    found = consistency(CLEAN, PERTURBED, SOURCES, samples=200)
    assert found.share == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert (found.clips, found.ties, found.left_out) == (4, 1, 1)
    assert found.margin == pytest.approx((1 + 0 - 0.5 + 0.5) / 4)
    assert (found.low, found.high) == (0.5, 0.75), "a source wins 3/4 or 1/2 of its clips"


def test_a_copy_that_is_no_different_is_worth_a_half() -> None:
    found = consistency(CLEAN[:4], CLEAN[:4], SOURCES[:4])
    assert (found.share, found.low, found.high, found.ties) == (0.5, 0.5, 0.5, 4)


def test_turning_the_two_round_turns_the_share_round() -> None:
    rng = np.random.default_rng(0)
    a, b, sources = rng.normal(size=50), rng.normal(size=50), rng.integers(0, 8, 50)
    assert consistency(a, b, sources).share == pytest.approx(1 - consistency(b, a, sources).share)


def test_gain_is_of_the_clips_that_both_have() -> None:
    better = (np.array([3.0, 2.5, np.nan, 1.0, 4.0]), PERTURBED)
    gain, low, high = consistency_gain((CLEAN, PERTURBED), better, SOURCES, samples=200)
    assert gain == pytest.approx(0.5 / 3), "of clips 0, 1 and 3, clip 1 became a win"
    assert low <= gain <= high


def test_nothing_to_compare() -> None:
    nothing = np.full(5, np.nan)
    found = consistency(nothing, PERTURBED, SOURCES)
    assert (found.clips, found.left_out) == (0, 5)
    assert math.isnan(found.share)
    assert math.isnan(found.low)
    assert all(map(math.isnan, consistency_gain((nothing, nothing), (CLEAN, PERTURBED), SOURCES)))
