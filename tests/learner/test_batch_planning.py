"""Who computes what: every completion once, within the budget, and ranks equally long in each pass."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.lockstep import measure
from data.records import Completion, Group, VideoRef
from learner.batch_planning import (
    RankPlan,
    filler,
    plan_batches,
    plan_update,
    step_tokens,
    whole_groups_bound,
)


def group(prompt: int, lengths: Sequence[int]) -> Group:
    completions = [Completion([0] * n, [], "", "stop", [0]) for n in lengths]
    return Group(VideoRef("", "", 1), [0] * prompt, completions)


GROUPS = st.lists(
    st.tuples(st.integers(1, 50), st.lists(st.integers(1, 60), min_size=1, max_size=6)),
    min_size=1,
    max_size=16,
)


@settings(deadline=None)
@example([(1, [1, 1]), (1, [4]), (1, [8]), (1, [1, 1, 1, 1, 1, 7])], 1, 56, False)
@given(GROUPS, st.integers(1, 6), st.integers(20, 400), st.booleans())
def test_every_completion_is_computed_once_within_the_budget(
    sizes: list[tuple[int, list[int]]], ranks: int, budget: int, packed: bool
) -> None:
    groups = [group(prompt, lengths) for prompt, lengths in sizes]
    plans = plan_update(groups, ranks, budget, packed)
    assert len(plans) == ranks
    assert sorted(i for plan in plans for i in plan.groups) == list(range(len(groups)))
    computed = [
        (plan.groups[piece.group], index)
        for plan in plans
        for batch in plan.passes
        for piece in batch
        for index in piece.completions
    ]
    assert sorted(computed) == [(g, c) for g, (_, lengths) in enumerate(sizes) for c in range(len(lengths))]
    for plan in plans:
        for batch in plan.passes:
            rows = [piece.row_tokens for piece in batch for _ in range(piece.rows)]
            tokens = sum(rows) if packed else len(rows) * max(rows)
            assert tokens <= budget or (len(batch) == 1 and len(batch[0].completions) == 1)


def passes_with_fillers(plans: Sequence[RankPlan], groups: Sequence[Group]) -> list[list[int]]:
    """Tokens of each pass of each rank, as the trainer fills them up to the number that all ranks make."""
    most = max(len(plan.passes) for plan in plans)
    tokens = []
    for plan in plans:
        mine = [groups[i] for i in plan.groups] or [min(groups, key=lambda g: g.n_tokens)]
        idle = [filler(mine, packed=True).tokens] * (most - len(plan.passes))
        tokens.append([sum(piece.tokens for piece in batch) for batch in plan.passes] + idle)
    return tokens


@settings(deadline=None)
@given(
    st.integers(1, 50),
    st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=6), min_size=1, max_size=16),
    st.integers(1, 6),
    st.integers(64, 400),
)
def test_ranks_make_as_many_passes_and_fillers_cost_a_prompt_and_a_short_answer(
    prompt: int, sizes: list[list[int]], ranks: int, budget: int
) -> None:
    groups = [group(prompt, lengths) for lengths in sizes]
    plans = plan_update(groups, ranks, budget, packed=True)
    tokens = passes_with_fillers(plans, groups)
    assert len({len(row) for row in tokens}) == 1
    in_step = sum(max(column) for column in zip(*tokens, strict=True))
    planned = step_tokens(plans, packed=True)
    # Every pass has a prompt and an answer on some rank: a filler is longer by no more than its own answer.
    assert planned <= in_step <= planned + len(tokens[0]) * max(min(lengths) for lengths in sizes)
    if all(prompt + sum(lengths) <= budget for lengths in sizes):
        assert in_step >= whole_groups_bound([prompt + sum(lengths) for lengths in sizes], ranks) - 1e-6


def test_planned_anew_it_is_the_same() -> None:
    """Ranks and resumed runs see the same passes, so that an update is computed in the same order."""
    groups = [group(100, [10 * i % 170 + 1, 20, 7]) for i in range(40)]
    assert plan_update(groups, 4, 900, True) == plan_update(groups, 4, 900, True)
    assert plan_batches(groups, 900, True) == plan_update(groups, 1, 900, True)[0].passes


def test_two_passes_are_balanced_where_one_is_too_small() -> None:
    """Eight groups of 100 on two ranks, and 350 tokens a pass: two and two, and not three and one."""
    plans = plan_update([group(60, [20, 20]) for _ in range(8)], 2, 350, packed=True)
    assert [[len(batch) for batch in plan.passes] for plan in plans] == [[2, 2], [2, 2]]


def test_a_rank_without_a_group_has_nothing_planned() -> None:
    plans = plan_update([group(60, [20, 20])], 3, 350, packed=True)
    assert [plan.groups for plan in plans] == [[0], [], []]
    assert [len(plan.passes) for plan in plans] == [1, 0, 0]


@pytest.mark.parametrize("ranks", [4, 8, 16, 32])
@pytest.mark.parametrize(("mean", "at_cap"), [(200, 0.0), (300, 0.01), (500, 0.01), (800, 0.0), (800, 0.01)])
def test_within_a_tenth_of_what_whole_groups_allow(ranks: int, mean: int, at_cap: float) -> None:
    case = measure(ranks, videos=32, mean=mean, at_cap=at_cap, draws=20)
    assert case.ratio <= 1.10
