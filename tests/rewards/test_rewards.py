"""The rewards against cases worked out by hand, and the properties that the method promises."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rewards.cohort import CohortTexts, RewardTable, score_cohort
from rewards.config import RewardConfig
from rewards.format import is_well_formed
from rewards.parser import Parsed, parse_score
from rewards.ranking import group_moments, ranking_rewards
from rewards.regression import regression_reward
from rewards.temporal import temporal_reward

CONFIG = RewardConfig()
scores_1_to_5 = st.integers(100, 500).map(lambda n: n / 100)


def answer(score: float | str, thought: str = "sharp") -> str:
    text = score if isinstance(score, str) else f"{score:.2f}"
    return f"<think>{thought}</think><answer>{text}</answer>"


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("3.42", Parsed(3.42, 2)),
        ("3.50", Parsed(3.5, 2)),
        ("3.5", Parsed(3.5, 1)),
        ("3", Parsed(3.0, 0)),
        (" 4.125\n", Parsed(4.125, 3)),
        ("1", Parsed(1.0, 0)),
        ("5.00", Parsed(5.0, 2)),
        ("0.99", None),
        ("5.01", None),
        ("7", None),
        ("-3", None),
        ("between 2 and 4", None),
        ("3.5/5", None),
        ("3,5", None),
        ("3.", None),
        ("1e0", None),
        ("nan", None),
        ("", None),
        ("٣", None),
    ],
)
def test_an_answer_is_one_number_and_nothing_else(inside: str, expected: Parsed | None) -> None:
    assert parse_score(answer(inside)) == expected


def test_no_answer_and_two_answers_do_not_parse() -> None:
    assert parse_score("3.42") is None
    assert parse_score(answer(3.0) + "<answer>4.00</answer>") is None
    assert parse_score("<answer>3.00") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (answer(3.0), True),
        ("\n<think>\na\n</think>\n <answer> 3 </answer> ", True),
        ("<answer>3.00</answer>", False),
        (answer(3.0) + "x", False),
        ("x" + answer(3.0), False),
        ("<think>a</think>so<answer>3</answer>", False),
        ("<think><think>a</think><answer>3</answer>", False),
        ("<answer>3</answer><think>a</think>", False),
    ],
)
def test_form(text: str, expected: bool) -> None:
    assert is_well_formed(text) is expected


def test_regression_by_hand() -> None:
    scores = np.array([3.0, 3.5, 4.0, 3.0, np.nan])
    rewards = regression_reward(scores, np.array([2, 2, 3, 1, 0]), 3.0)
    assert rewards == pytest.approx([1, math.exp(-0.5), math.exp(-2), 0.8, 0])


@given(scores_1_to_5, scores_1_to_5, scores_1_to_5)
def test_regression_grows_towards_the_label(first: float, second: float, mos: float) -> None:
    near, far = sorted((first, second), key=lambda s: abs(s - mos))
    rewards = regression_reward(np.array([near, far]), np.array([2, 2]), mos)
    assert 0 <= rewards[1] <= rewards[0] + 1e-12
    assert rewards[0] <= 1


def test_ranking_by_hand() -> None:
    groups = [np.array([2.0, 4.0]), np.array([3.0, 3.0])]
    rewards = ranking_rewards(groups, np.array([1.0, 5.0]))
    # Against video 1: mean 3, variance 0; own variance 2. The label says: below.
    wins = 0.5 * (1 + math.erf((4.0 - 3.0) / math.sqrt(2 + 1e-6) / math.sqrt(2)))
    assert rewards[0][1] == pytest.approx(math.sqrt(1e-6) + math.sqrt(1 - wins + 1e-6))
    assert rewards[0][0] == pytest.approx(math.sqrt(1e-6) + math.sqrt(wins + 1e-6), abs=1e-9)
    assert rewards[1] == pytest.approx([math.sqrt(0.5 + 1e-6) + math.sqrt(1e-6)] * 2)


def test_equal_labels_ask_for_equal_scores() -> None:
    equal, apart = (
        ranking_rewards([np.array([s]), np.array([3.0])], np.array([3.0, 3.0]))[0][0] for s in (3.0, 4.0)
    )
    assert equal == pytest.approx(2 * math.sqrt(0.25 + 1e-6))
    assert apart < equal


def test_moments_of_small_groups() -> None:
    assert group_moments(np.array([2.0, np.nan])) == (2.0, 0.0)
    assert group_moments(np.array([1.0, 3.0])) == (2.0, 2.0)
    assert math.isnan(group_moments(np.array([np.nan]))[0])


cohorts = st.integers(2, 5).flatmap(
    lambda k: st.tuples(
        st.lists(
            st.lists(st.one_of(scores_1_to_5, st.just(math.nan)), min_size=1, max_size=5),
            min_size=k,
            max_size=k,
        ),
        hnp.arrays(np.float64, k, elements=scores_1_to_5),
    )
)


@given(cohorts)
def test_ranking_is_bounded_and_unchanged_by_reflection(cohort: tuple[list[list[float]], np.ndarray]) -> None:
    groups, mos = [np.array(g) for g in cohort[0]], cohort[1]
    rewards = np.concatenate(ranking_rewards(groups, mos))
    reflected = np.concatenate(ranking_rewards([6 - g for g in groups], 6 - mos))
    assert rewards == pytest.approx(reflected, abs=1e-6)
    parsed = np.isfinite(np.concatenate(groups))
    assert (rewards[~parsed] == 0).all()
    assert ((rewards == 0) | ((rewards > 0.0019) & (rewards < 1.42))).all()


@given(cohorts, st.randoms())
def test_rewards_do_not_depend_on_the_order_of_videos_or_completions(
    cohort: tuple[list[list[float]], np.ndarray], random: np.random.RandomState
) -> None:
    groups, mos = cohort
    texts = [[answer("none" if math.isnan(s) else s) for s in g] for g in groups]
    k = len(texts)
    table = score_cohort(
        CohortTexts(mos.tolist(), ["a"] * k, [False] * k, texts, list(reversed(texts))), CONFIG
    )
    order = list(range(k))
    random.shuffle(order)
    mixed = score_cohort(
        CohortTexts(
            [float(mos[i]) for i in order],
            ["a"] * k,
            [False] * k,
            [texts[i][::-1] for i in order],
            [texts[k - 1 - i][::-1] for i in order],
        ),
        CONFIG,
    )
    for place, i in enumerate(order):
        assert mixed.total[place][::-1] == pytest.approx(table.total[i], abs=1e-6)


def test_temporal_by_hand() -> None:
    ranking, regression = np.array([0.6, 0.4]), np.array([0.95, 0.2])
    assert temporal_reward(ranking, regression, np.array([0.5]), np.array([0.5])) == pytest.approx([0.6, 0])
    better_when_shuffled = temporal_reward(ranking, regression, np.array([0.51]), np.array([0.5]))
    assert better_when_shuffled == pytest.approx([0.3, 0])
    assert temporal_reward(ranking, regression, np.array([]), np.array([])) == pytest.approx([0, 0])


def cohort_of(clean: list[list[str]], perturbed: list[list[str] | None], **given: Any) -> RewardTable:
    k = len(clean)
    columns: dict[str, Any] = {
        "mos": [2.0, 4.0][:k],
        "label_sets": ["a"] * k,
        "rank_only": [False] * k,
    } | given
    return score_cohort(CohortTexts(clean=clean, perturbed=perturbed, **columns), CONFIG)


def test_an_answer_that_does_not_parse_earns_nothing_at_all() -> None:
    table = cohort_of([[answer("good"), answer(2.0)], [answer(4.0)]], [None, None])
    for component in (
        table.rewards["regression"],
        table.rewards["ranking"],
        table.rewards["temporal"],
        table.rewards["format"],
        table.total,
    ):
        assert component[0][0] == 0
    assert math.isnan(table.scores[0][0])
    assert table.rewards["format"][0][1] == 1
    assert table.total[0][1] == pytest.approx(1 + table.rewards["ranking"][0][1] + 1)


def test_a_group_without_a_score_is_no_opponent() -> None:
    table = cohort_of([[answer(2.0)], ["nothing"]], [None, None])
    assert table.rewards["ranking"][0][0] == 0
    assert table.total[0][0] == pytest.approx(2)


def test_sets_are_not_compared_and_rank_only_rows_have_no_target() -> None:
    apart = cohort_of([[answer(2.0)], [answer(4.0)]], [None, None], label_sets=["a", "b"])
    assert [r.tolist() for r in apart.rewards["ranking"]] == [[0], [0]]
    untargeted = cohort_of([[answer(2.0)], [answer(4.0)]], [None, None], rank_only=[True, False])
    assert untargeted.rewards["regression"][0].tolist() == [0]
    assert untargeted.rewards["ranking"][0][0] > 0.99


def test_perturbed_groups_compete_among_themselves() -> None:
    """Perturbed copies in the wrong order lose to the clean ones; in the right order they tie."""
    clean = [[answer(2.0)], [answer(4.0)]]
    wrong = cohort_of(clean, [[answer(4.0)], [answer(2.0)]])
    assert [r.tolist() for r in wrong.rewards["temporal"]] == [[0.6], [0.6]]
    same = cohort_of(clean, [[answer(2.0)], [answer(4.0)]])
    assert [r.tolist() for r in same.rewards["temporal"]] == [[0.6], [0.6]], "at least as well is enough"


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        CohortTexts([1.0], ["a"], [False], [], [])
