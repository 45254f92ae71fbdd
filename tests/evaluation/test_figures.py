"""The field's figures: equal to an independent computation, defined for everything, averaged as stated."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from evaluation.statistics.intervals import bootstrap_ci, paired_bootstrap
from evaluation.statistics.logistic_fit import FIT_NAME, FitError, fit_logistic
from evaluation.statistics.metrics import (
    CORRELATIONS,
    Scale,
    average,
    average_difference,
    difference,
    measure_agreement,
)

SHAPES = {
    "skewed, many": (3000, 0, 100, (6, 3), 2),
    "skewed, rounded to twentieths": (1200, 0, 100, (4, 3), 0),
    "even over the whole scale": (1200, 0, 100, (1, 1), 2),
    "narrow, one to five": (1000, 1, 5, (5, 2), 3),
}
"""Of the labels of a set, as those of the published sets are: number, scale, beta distribution, decimals."""
FEW = 4


def published_fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Fitted predictions as the field's codes take them, from the formula and the start values alone."""

    def logistic(x, b1, b2, b3, b4):  # type: ignore[no-untyped-def]
        return b2 + (b1 - b2) / (1 + np.exp(-(x - b3) / np.abs(b4)))

    start = [np.max(y), np.min(y), np.mean(x), 0.5]
    parameters, _ = optimize.curve_fit(logistic, x, y, p0=start, maxfev=100_000)
    return logistic(x, *parameters)


def predictions(labels: np.ndarray, low: float, high: float, noise: float, seed: int) -> np.ndarray:
    """Scores of a model that squeezes the scale, errs, and rounds to two decimals."""
    rng = np.random.default_rng(seed)
    position = (labels - low) / (high - low) + rng.normal(0, noise, len(labels))
    return np.round(np.clip(1.5 + 3 / (1 + np.exp(-7 * (position - 0.55))), 1, 5), 2)


def assert_as_by_hand(x: np.ndarray, y: np.ndarray, low: float, high: float) -> None:
    found = measure_agreement(x, y, np.arange(len(y)), Scale(low, high), samples=FEW)
    on_scale, fitted = low + (x - 1) * (high - low) / 4, published_fit(x, y)
    by_hand = {
        "srcc": stats.spearmanr(x, y).statistic,
        "krcc": stats.kendalltau(x, y).statistic,
        "plcc_raw": stats.pearsonr(x, y).statistic,
        "plcc_fitted": stats.pearsonr(fitted, y).statistic,
        "rmse_raw": math.sqrt(((on_scale - y) ** 2).mean()),
        "rmse_fitted": math.sqrt(((fitted - y) ** 2).mean()),
    }
    assert found.values == pytest.approx(by_hand, abs=1e-6)
    assert not found.notes


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_labels_shaped_as_published_against_an_independent_computation(shape: str, noise: float) -> None:
    count, low, high, beta, decimals = SHAPES[shape]
    shares = np.random.default_rng(count).beta(*beta, count)
    y = np.round(low + (high - low) * shares, decimals)
    assert_as_by_hand(predictions(y, low, high, noise, seed=count), y, low, high)


@pytest.mark.parametrize("seed", range(12))
def test_random_labels_against_an_independent_computation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.uniform(0, 100, int(rng.integers(20, 400)))
    assert_as_by_hand(predictions(y, 0, 100, rng.uniform(0.02, 0.3), seed), y, 0, 100)


def test_no_nearby_curve_is_better_and_order_of_videos_changes_nothing() -> None:
    """For given b3 and b4 the best b1 and b2 are linear regression: a search over two numbers only."""
    rng = np.random.default_rng(5)
    x = rng.uniform(1, 5, 300)
    y = 100 / (1 + np.exp(-2 * (x - 3))) + rng.normal(0, 10, 300)
    fit = fit_logistic(x, y)

    def squared_error(b3_b4: np.ndarray) -> float:
        rising = 1 / (1 + np.exp(-(x - b3_b4[0]) / abs(b3_b4[1])))
        design = np.stack([rising, np.ones_like(x)], axis=1)
        solution, *_ = np.linalg.lstsq(design, y)
        return float(((design @ solution - y) ** 2).sum())

    best = optimize.minimize(squared_error, [fit.b3, fit.b4], method="Nelder-Mead", tol=1e-10)
    assert ((fit(x) - y) ** 2).sum() == pytest.approx(best.fun, rel=1e-7)
    order = rng.permutation(300)
    assert fit_logistic(x[order], y[order])(x) == pytest.approx(fit(x), abs=0.05)


def test_a_set_whose_large_labels_are_bad_has_the_same_figures() -> None:
    y = np.random.default_rng(1).uniform(0, 100, 120)
    x = 1 + 4 / (1 + np.exp(-(y - 50) / 30)) + np.random.default_rng(2).uniform(-0.2, 0.2, 120)
    rising = measure_agreement(x, y, np.arange(120), Scale(0, 100), samples=FEW)
    falling = measure_agreement(x, 100 - y, np.arange(120), Scale(100, 0), samples=FEW)
    assert falling.values == pytest.approx(rising.values, rel=1e-5)
    assert falling.fit is not None
    assert rising.fit is not None
    assert falling.fit(x) == pytest.approx(100 - rising.fit(x), abs=0.05)


def test_intervals_are_those_of_one_figure_alone() -> None:
    y = np.random.default_rng(2).uniform(1, 5, 90)
    sources = np.array([f"s{i % 30}" for i in range(90)])
    before, after = (predictions(y, 1, 5, noise, seed=3) for noise in (0.3, 0.1))
    measured = [measure_agreement(x, y, sources, samples=200, seed=4) for x in (before, after)]
    assert measured[0].intervals["srcc"] == pytest.approx(bootstrap_ci(before, y, sources, 200, seed=4))
    gain = difference(*measured)["srcc"]
    assert (gain.value, gain.low, gain.high) == pytest.approx(
        paired_bootstrap(before, after, y, sources, 200, seed=4)
    )
    assert gain.excludes_zero
    itself = difference(measured[0], measured[0])
    assert all((d.value, d.low, d.high, d.excludes_zero) == (0, 0, 0, False) for d in itself.values())


scored = st.lists(st.tuples(st.integers(100, 500), st.integers(0, 1000)), min_size=5, max_size=40)


@settings(deadline=None, max_examples=40)
@given(scored)
def test_rank_figures_stand_any_rising_map_and_no_fit_is_silently_worse_than_a_line(
    pairs: list[tuple[int, int]],
) -> None:
    x, y = (np.array(column) / 100 for column in zip(*pairs, strict=True))
    found = measure_agreement(x, y, np.arange(len(y)), samples=FEW)
    mapped = measure_agreement(1 + np.log(x) ** 3 / 2, np.exp(y), np.arange(len(y)), samples=FEW)
    for name in ("srcc", "krcc"):
        assert mapped.values[name] == pytest.approx(found.values[name], nan_ok=True)
    if not found.notes.keys() & {FIT_NAME, "correlations"}:
        assert found.values["plcc_fitted"] >= found.values["plcc_raw"] - 1e-6


@settings(deadline=None, max_examples=40)
@given(scored, st.randoms(use_true_random=False))
def test_order_of_videos_changes_nothing(pairs: list[tuple[int, int]], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = random.sample(pairs, len(pairs))
    one, other = (
        measure_agreement(x / 100, y / 100, np.arange(len(y)), samples=FEW)
        for x, y in (np.array(rows, dtype=float).T for rows in (pairs, shuffled))
    )
    for name in ("srcc", "krcc", "plcc_raw", "rmse_raw"):
        assert other.values[name] == pytest.approx(one.values[name], nan_ok=True)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("predicted", "labels", "note"),
    [
        ([], [], "no video has a score"),
        ([3.0], [4.0], "1 video has a score, 3 are needed"),
        ([3.0, 4.0], [2.0, 4.0], "2 videos have a score, 3 are needed"),
        ([3.0] * 9, range(9), "every prediction is 3"),
        ([1.0, 2.0, 3.0, 4.0, 5.0], [4.0] * 5, "every label is 4"),
    ],
)
def test_what_has_no_correlation_says_why(predicted: list[float], labels: list[float], note: str) -> None:
    found = measure_agreement(
        np.array(predicted), np.array(labels, dtype=float), np.arange(len(predicted)), samples=FEW
    )
    assert all(math.isnan(found.values[name]) for name in CORRELATIONS)
    assert all(math.isnan(end) for name in CORRELATIONS for end in found.intervals[name])
    assert found.notes == {"correlations": note}
    assert math.isnan(found.values["rmse_raw"]) == (not predicted)
    assert found.fit is None


@pytest.mark.filterwarnings("error")
def test_other_doubts_are_noted() -> None:
    y = np.linspace(1, 5, 30)
    rows = np.arange(30)
    assert "at least 5 videos" in measure_agreement(y[:4], y[:4], rows[:4], samples=FEW).notes[FIT_NAME]
    assert "the curve falls" in measure_agreement(6 - y, y, rows, samples=FEW).notes[FIT_NAME]
    assert "outside 1 to 5" in measure_agreement(y - 7, y, rows, samples=FEW).notes["RMSE raw"]
    assert "one source" in measure_agreement(y, y, np.zeros(30), samples=FEW).notes["intervals"]
    assert measure_agreement(y, y, np.arange(30) > 0, samples=200).notes.keys() >= {"interval of SRCC"}
    ordered = measure_agreement(y, y, rows, samples=FEW, rank_only=True)
    assert "rank_only" in ordered.notes["PLCC, RMSE"]
    assert ordered.values["srcc"] == pytest.approx(1)
    assert all(math.isnan(ordered.values[n]) for n in ("plcc_raw", "plcc_fitted", "rmse_raw", "rmse_fitted"))


def test_a_search_that_does_not_end_is_no_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    y = np.random.default_rng(0).uniform(0, 100, 50)
    x = predictions(y, 0, 100, 0.2, seed=0)
    with pytest.raises(FitError, match="did not converge within 6 evaluations"):
        fit_logistic(x, y, most_evaluations=6)
    monkeypatch.setattr(
        "evaluation.statistics.metrics.fit_logistic", partial(fit_logistic, most_evaluations=6)
    )
    found = measure_agreement(x, y, np.arange(50), Scale(0, 100), samples=FEW)
    assert "did not converge" in found.notes[FIT_NAME]
    assert math.isnan(found.values["plcc_fitted"])
    assert np.isfinite(found.values["plcc_raw"])


def test_averages_leave_out_sets_without_the_figure() -> None:
    y = np.random.default_rng(0).uniform(1, 5, 60)
    sets = {
        "large": measure_agreement(predictions(y, 1, 5, 0.2, 0), y, np.arange(60), samples=FEW),
        "small": measure_agreement(predictions(y[:20], 1, 5, 0.6, 1), y[:20], np.arange(20), samples=FEW),
        "two": measure_agreement(y[:2], y[:2], np.arange(2), samples=FEW),
    }
    large, small = (sets[name].values["srcc"] for name in ("large", "small"))
    for weighted, expected in ((False, (large + small) / 2), (True, (60 * large + 20 * small) / 80)):
        mean = average(sets, "srcc", weighted)
        assert mean.value == pytest.approx(expected)
        assert mean.missing == ["two"]
        assert np.isfinite(mean.interval).all()
    nothing = average({"two": sets["two"]}, "srcc", weighted=True)
    assert math.isnan(nothing.value)
    assert all(math.isnan(end) for end in nothing.interval)
    assert nothing.missing == ["two"]
    without, with_ = (
        average({"large": sets["large"], "b": sets[b]}, "srcc", False) for b in ("two", "small")
    )
    assert math.isnan(average_difference(without, with_).value), "means over other sets"


def test_a_mean_over_sets_is_surer_than_each_of_them() -> None:
    y = np.random.default_rng(0).uniform(1, 5, 100)
    before, after = (
        {
            name: measure_agreement(
                predictions(y, 1, 5, noise, i), y, np.arange(100), samples=200, seed=(0, i)
            )
            for i, name in enumerate("abcd")
        }
        for noise in (0.5, 0.2)
    )
    poor, good = (average(sets, "srcc", weighted=False) for sets in (before, after))
    width = np.mean([np.diff(figures.intervals["srcc"]) for figures in before.values()])
    assert np.diff(poor.interval) == pytest.approx(width / 2, rel=0.3), "four sets: half the width"
    gain = average_difference(poor, good)
    assert gain.value == pytest.approx(good.value - poor.value)
    assert gain.low < gain.value < gain.high
    assert gain.excludes_zero


def test_errors_have_intervals() -> None:
    y = np.random.default_rng(0).uniform(0, 100, 200)
    x = np.clip(1 + y / 25 + np.random.default_rng(1).normal(0, 0.4, 200), 1, 5)
    found = measure_agreement(x, y, np.arange(200), Scale(0, 100), samples=300)
    for name in ("rmse_raw", "rmse_fitted"):
        low, high = found.intervals[name]
        assert low < found.values[name] < high
        error = stats.sem((25 * (x - 1) - y) ** 2) / (2 * found.values["rmse_raw"])  # delta method
        assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.3)
