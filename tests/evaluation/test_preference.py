"""How clearly one version is preferred to another, and the statistics of many pairs."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import ndtr

from evaluation.preference import confidence, paired_difference

SCORES = st.lists(st.floats(1, 5).map(lambda score: round(score, 2)), min_size=2, max_size=12)


@given(SCORES, SCORES)
def test_the_confidences_of_both_sum_to_one(first: list[float], second: list[float]) -> None:
    assert confidence(first, second) == pytest.approx(1 - confidence(second, first), abs=1e-12)
    assert 0 <= confidence(first, second) <= 1


@given(SCORES)
def test_a_version_against_itself_is_one_half(scores: list[float]) -> None:
    assert confidence(scores, scores) == 0.5
    assert confidence(scores, scores[::-1]) == pytest.approx(0.5)


@given(SCORES, SCORES, st.floats(0.01, 4))
def test_a_larger_difference_is_clearer(first: list[float], second: list[float], more: float) -> None:
    """With equal spreads, confidence rises with the difference of the means until it is 1."""
    before = confidence(first, second)
    after = confidence([score + more for score in first], second)
    assert after >= before
    assume(1e-6 < before < 0.999)
    assert after > before


@given(st.floats(1, 5), st.floats(1, 5), st.floats(0.1, 1), st.floats(1.1, 5))
def test_more_spread_is_less_clear(first: float, second: float, spread: float, factor: float) -> None:
    assume(abs(first - second) > 0.1)

    def around(mean: float, by: float) -> list[float]:
        return [mean - by, mean + by]

    narrow = confidence(around(first, spread), around(second, spread))
    wide = confidence(around(first, spread * factor), around(second, spread * factor))
    assert abs(wide - 0.5) <= abs(narrow - 0.5)


def test_equal_spreads_are_case_five() -> None:
    one, other = [3.0, 4.0, 5.0], [2.5, 3.5, 4.5]
    assert confidence(one, other) == pytest.approx(float(ndtr(0.5 / math.sqrt(2))), abs=1e-6)


def test_one_sample_has_no_spread() -> None:
    with pytest.raises(ValueError, match="each version needs 2"):
        confidence([3.0], [2.0, 2.5])


@given(st.lists(st.floats(-4, 4), min_size=1, max_size=20))
def test_both_directions_of_pairs_are_one_result(differences: list[float]) -> None:
    of, opposite = (paired_difference(d, samples=100) for d in (differences, [-d for d in differences]))
    assert (of.better, of.worse, of.same) == (opposite.worse, opposite.better, opposite.same)
    assert of.better + of.worse + of.same == of.n == len(differences)
    assert of.mean == pytest.approx(-opposite.mean)
    assert of.sign_test_p == opposite.sign_test_p or of.better == of.worse == 0
    if of.n > 1:
        assert of.low <= of.mean + 1e-9
        assert of.mean <= of.high + 1e-9
        assert opposite.low <= -of.mean + 1e-9


def test_the_sign_test_leaves_ties_out() -> None:
    of = paired_difference([0.5] * 8 + [0.0] * 5)
    assert (of.better, of.worse, of.same) == (8, 0, 5)
    assert of.sign_test_p == pytest.approx(2 / 2**8)
    assert math.isnan(paired_difference([0.0, 0.0]).sign_test_p)
    assert math.isnan(paired_difference([0.3]).low)
    with pytest.raises(ValueError, match="no pair"):
        paired_difference([])
