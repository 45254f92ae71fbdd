"""Agreement figures: scipy's values, intervals over sources, and defined answers to degenerate inputs."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from evaluation.statistics.correlation import krcc, plcc, rmse, srcc, why_undefined
from evaluation.statistics.intervals import bootstrap_ci, interval, paired_bootstrap, resamples

rng = np.random.default_rng(0)
MOS = rng.uniform(1, 5, 60)
GOOD = MOS + rng.normal(0, 0.5, 60)
POOR = MOS + rng.normal(0, 3.0, 60)
SOURCES = np.array([f"s{i % 12}" for i in range(60)])


def test_figures_are_scipys() -> None:
    assert srcc(GOOD, MOS) == pytest.approx(stats.spearmanr(GOOD, MOS)[0])
    assert plcc(GOOD, MOS) == pytest.approx(stats.pearsonr(GOOD, MOS)[0])
    assert krcc(GOOD, MOS) == pytest.approx(stats.kendalltau(GOOD, MOS)[0])
    assert rmse(np.array([1.0, 3.0]), np.array([2.0, 5.0])) == pytest.approx(math.sqrt(2.5))


@pytest.mark.parametrize("figure", [srcc, plcc, krcc])
def test_degenerate_inputs_have_no_correlation(figure) -> None:  # type: ignore[no-untyped-def]
    assert math.isnan(figure(np.array([1.0, 2.0]), np.array([1.0, 2.0])))
    assert math.isnan(figure(np.full(9, 3.0), np.arange(9.0)))
    assert math.isnan(figure(np.arange(9.0), np.full(9, 3.0)))
    assert math.isnan(figure(np.array([]), np.array([])))


def test_interval_holds_the_figure_and_widens_when_sources_are_few() -> None:
    low, high = bootstrap_ci(GOOD, MOS, SOURCES, samples=500)
    assert low < srcc(GOOD, MOS) < high
    assert bootstrap_ci(GOOD, MOS, SOURCES, samples=500) == (low, high), "the same seed, the same interval"
    assert all(math.isnan(x) for x in bootstrap_ci(GOOD, MOS, np.full(60, "one")))


def test_interval_of_clones_is_that_of_their_sources() -> None:
    """Ten copies of every clip are no new evidence."""
    single = bootstrap_ci(POOR, MOS, np.arange(60), samples=800)
    poor, mos, sources = (np.repeat(x, 10) for x in (POOR, MOS, np.arange(60)))
    cloned = bootstrap_ci(poor, mos, sources, samples=800)
    assert cloned == pytest.approx(single, abs=0.03)


def test_paired_gain() -> None:
    gain, low, high = paired_bootstrap(POOR, GOOD, MOS, SOURCES, samples=500)
    assert gain == pytest.approx(srcc(GOOD, MOS) - srcc(POOR, MOS))
    assert 0 < low < gain < high
    assert paired_bootstrap(GOOD, GOOD, MOS, SOURCES, samples=50) == (0.0, 0.0, 0.0)


@given(arrays(int, 9, elements=st.integers(0, 5)), arrays(int, 9, elements=st.integers(0, 5)))
def test_krcc_is_a_count_of_pairs(predicted: np.ndarray, mos: np.ndarray) -> None:
    """Tau-b by its definition: pairs in the same order less those in opposite order, over untied pairs."""
    same_order, untied_predicted, untied_mos = 0, 0, 0
    for i, j in itertools.combinations(range(9), 2):
        same_order += np.sign(predicted[i] - predicted[j]) * np.sign(mos[i] - mos[j])
        untied_predicted += predicted[i] != predicted[j]
        untied_mos += mos[i] != mos[j]
    if untied_predicted and untied_mos:
        assert krcc(predicted, mos) == pytest.approx(same_order / math.sqrt(untied_predicted * untied_mos))
    else:
        assert math.isnan(krcc(predicted, mos))
        assert why_undefined(predicted, mos)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(0, 100))
def test_resamples_hold_whole_groups(groups: list[int], seed: int) -> None:
    names = np.array(groups)
    drawn = list(resamples(names, 20, seed))
    assert len(drawn) == (20 if len(set(groups)) > 1 else 0)
    for rows in drawn:
        times = np.bincount(rows, minlength=len(names))
        copies = {name: set(times[names == name]) for name in set(groups)}
        assert all(len(c) == 1 for c in copies.values()), "a group is drawn as a whole"
        assert sum(c.pop() for c in copies.values()) == len(copies), "as many groups as there are"


def test_interval_leaves_out_what_has_no_value() -> None:
    assert interval([*range(101), math.nan]) == pytest.approx((2.5, 97.5))
    assert all(math.isnan(end) for end in interval([math.nan]))
