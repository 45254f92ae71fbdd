"""Cohorts, perturbations and seeds depend on (seed, epoch, index) and on nothing else."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.perturb import KINDS, draw_perturbation, perturb
from data.records import Perturbation, PerturbationKind, Video
from data.sampler import CohortSampler
from data.seeds import completion_seed, stable_hash


def rows(count: int, label_set: str = "a") -> list[Video]:
    return [Video(f"{label_set}{i}", f"/{label_set}{i}.mp4", 3.0, "train", label_set) for i in range(count)]


def sampler(videos: list[Video], size: int, seed: int = 0) -> CohortSampler:
    return CohortSampler(videos, size, seed, n_frames=4, temporal=True)


LABEL_SETS = st.lists(st.integers(1, 30), min_size=1, max_size=12)


def of_sets(counts: list[int]) -> list[Video]:
    return [video for number, count in enumerate(counts) for video in rows(count, f"set{number}/")]


@given(LABEL_SETS, st.integers(1, 12), st.integers(0, 2**31), st.integers(0, 3))
def test_every_epoch_holds_every_video_once_and_no_set_is_split_without_need(
    counts: list[int], size: int, seed: int, epoch: int
) -> None:
    videos = of_sets(counts)
    drawn = sampler(videos, size, seed)
    n = drawn.cohorts_per_epoch
    cohorts = [drawn.cohort(epoch * n + i) for i in range(n)]
    assert all(c.epoch == epoch for c in cohorts)
    assert sorted(m.video.video_id for c in cohorts for m in c.members) == sorted(v.video_id for v in videos)
    whole = Counter(v.label_set for v in videos)
    for cohort in cohorts:
        met = Counter(m.video.label_set for m in cohort.members)
        if len(met) == 1:
            assert len(cohort.members) <= size + 1
        else:
            assert len(cohort.members) <= size
            assert all(whole[name] == count < size for name, count in met.items()), "only whole, small sets"


@given(LABEL_SETS, st.integers(1, 12))
def test_no_video_is_without_a_peer_that_has_one(counts: list[int], size: int) -> None:
    drawn = sampler(of_sets(counts), size)
    cohorts = [drawn.cohort(i) for i in range(drawn.cohorts_per_epoch)]
    alone = sum(
        count == 1 for c in cohorts for count in Counter(m.video.label_set for m in c.members).values()
    )
    assert alone == (sum(counts) if size == 1 else counts.count(1))


@given(st.lists(st.integers(1, 11), min_size=1, max_size=60))
def test_small_sets_fill_their_cohorts(counts: list[int]) -> None:
    """No two cohorts could be one."""
    drawn = sampler(of_sets(counts), 12)
    sizes = sorted(len(drawn.cohort(i).members) for i in range(drawn.cohorts_per_epoch))
    assert len(sizes) == 1 or sizes[0] + sizes[1] > 12


def test_ladders_meet_others_in_another_epoch() -> None:
    drawn = sampler(of_sets([5] * 40), 10)
    assert drawn.cohorts_per_epoch == 20
    first, second = (
        {frozenset(m.video.label_set for m in drawn.cohort(20 * epoch + i).members) for i in range(20)}
        for epoch in (0, 1)
    )
    assert len(first) == len(second) == 20
    assert first != second


def plainly(videos: list[Video], size: int, seed: int, epoch: int) -> list[list[str]]:
    """The cohorts of a manifest of one label set: shuffled, cut, shuffled."""
    rng = np.random.default_rng(stable_hash("cohorts", seed, epoch))
    ordered = sorted(v.video_id for v in videos)
    shuffled = [ordered[i] for i in rng.permutation(len(ordered))]
    cohorts = [shuffled[i : i + size] for i in range(0, len(shuffled), size)]
    if len(cohorts) > 1 and len(cohorts[-1]) == 1 and size > 1:
        last = cohorts.pop()
        cohorts[-1] += last
    return [cohorts[i] for i in rng.permutation(len(cohorts))]


@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 2**31), st.integers(0, 2))
def test_the_cohorts_of_a_single_set_are_those_of_the_plain_algorithm(
    count: int, size: int, seed: int, epoch: int
) -> None:
    """Else a run of an older version could not be resumed."""
    videos = rows(count)
    drawn = sampler(videos, size, seed)
    n = drawn.cohorts_per_epoch
    cohorts = [[m.video.video_id for m in drawn.cohort(epoch * n + i).members] for i in range(n)]
    assert cohorts == plainly(videos, size, seed, epoch)


def test_a_cohort_is_a_function_of_seed_and_index_alone() -> None:
    videos = rows(30) + of_sets([3, 2, 1, 3])
    forward, backward = sampler(videos, 4), sampler(list(reversed(videos)), 4)
    drawn = {i: forward.cohort(i) for i in range(20)}
    assert {i: backward.cohort(i) for i in reversed(range(20))} == drawn
    assert sampler(videos, 4, seed=1).cohort(0) != drawn[0]
    other = forward.cohort(forward.cohorts_per_epoch)
    assert drawn[0].members != other.members, "another epoch has other cohorts"


def test_without_the_temporal_reward_there_are_no_perturbed_copies() -> None:
    plain = CohortSampler(rows(4), 2, 0, n_frames=4, temporal=False)
    assert all(m.perturbed is None for m in plain.cohort(0).members)
    assert all(m.perturbed is not None for m in sampler(rows(4), 2).cohort(0).members)


@given(st.sampled_from(KINDS), st.integers(2, 13), st.integers(0, 2**63 - 1))
def test_a_perturbation_changes_the_video_and_can_be_had_again(
    kind: PerturbationKind, n_frames: int, seed: int
) -> None:
    frames = np.arange(1, n_frames + 1, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    drawn = Perturbation(kind, seed)
    changed = perturb(frames, drawn)
    assert changed.shape == frames.shape
    assert not np.array_equal(changed, frames)
    assert np.array_equal(changed, perturb(frames, drawn))
    order = changed[:, 0, 0, 0].astype(int) - 1
    match kind:
        case "shuffle":
            assert sorted(order) == list(range(n_frames))
        case "local_shuffle":
            assert [i // 4 for i in order] == [i // 4 for i in range(n_frames)]
            assert sorted(order) == list(range(n_frames))
        case "reverse":
            assert order.tolist() == list(range(n_frames))[::-1]
        case "jitter":
            assert np.abs(order - np.arange(n_frames)).max() == 1
        case "duplicate":
            held = n_frames - len(set(order.tolist()))
            assert 1 <= held <= 3
            assert (np.diff(order) >= 0).all()
        case "drop":
            assert 1 <= (order == -1).sum() <= min(3, n_frames - 1)


def test_all_kinds_are_drawn_and_a_single_frame_has_none() -> None:
    drawn = [draw_perturbation(0, 0, 0, f"v{i}", 6) for i in range(200)]
    assert {p.kind for p in drawn if p is not None} == set(KINDS)
    assert draw_perturbation(0, 0, 0, "v", 1) is None
    with pytest.raises(ValueError, match="at least 2"):
        perturb(np.zeros((1, 2, 2, 3)), Perturbation("shuffle", 0))


def test_hash_is_stable_and_keeps_parts_apart() -> None:
    assert stable_hash("a", 1) == 3031461633719603377, "a run of an older version could not be resumed"
    assert stable_hash("ab", "c") != stable_hash("a", "bc")
    assert stable_hash(1) != stable_hash("1")
    assert 0 <= stable_hash("x") < 2**63


def test_no_two_completions_share_a_seed() -> None:
    seeds = {
        completion_seed(run, epoch, cohort, video, copy, attempt, sample)
        for run in range(2)
        for epoch in range(2)
        for cohort in range(3)
        for video in ("a", "b")
        for copy in ("clean", "perturbed")
        for attempt in range(2)
        for sample in range(4)
    }
    assert len(seeds) == 2 * 2 * 3 * 2 * 2 * 2 * 4
