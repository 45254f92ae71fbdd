"""The real controller and buffer in virtual time: invariants under any timing, and what overlap is worth."""

import asyncio
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.config import derive_sizes, load_config
from cluster.planning.service_times import ServiceTimes
from cluster.planning.simulation import run_in_virtual_time, simulate
from cluster.preflight import Job
from data.records import Video
from data.sampler import CohortSampler


def job(n_videos: int, *overrides: str) -> Job:
    config = load_config(None, ["--rollout.engine=async", "--cluster.prefetch_videos=4000", *overrides])
    videos = [Video(f"v{i}", f"/v{i}.mp4", 1 + i % 5, "train") for i in range(n_videos)]
    size = config.schedule.videos_per_cohort
    sampler = CohortSampler(videos, size, config.seed, config.data.frames_per_video, temporal=False)
    return Job(config, videos, {}, sampler, derive_sizes(config, n_videos, sampler.cohorts_per_epoch))


def test_days_pass_in_no_time_and_in_order() -> None:
    seen: list[tuple[str, float]] = []

    async def nap(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append((name, asyncio.get_running_loop().time()))

    async def main() -> None:
        async with asyncio.TaskGroup() as naps:
            for name, seconds in (("week", 604800.0), ("day", 86400.0), ("blink", 0.3)):
                naps.create_task(nap(name, seconds))

    started = time.monotonic()
    run_in_virtual_time(main())
    assert time.monotonic() - started < 60
    assert seen == [("blink", 0.3), ("day", 86400.0), ("week", 604800.0)]


def test_tasks_that_wait_for_one_another_are_told() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="deadlock"):
        run_in_virtual_time(main())


@settings(max_examples=25, deadline=None)
@given(
    staleness=st.integers(0, 3),
    cohorts_per_update=st.integers(1, 3),
    in_flight=st.sampled_from(["keep", "finish"]),
    workers=st.integers(1, 5),
    update_s=st.floats(0.1, 60),
    spread=st.floats(0, 1.5),
    lifetime_s=st.floats(30, 1e5),
    seed=st.integers(0, 2**20),
)
def test_every_row_ends_once_and_no_token_is_too_old(
    staleness: int,
    cohorts_per_update: int,
    in_flight: str,
    workers: int,
    update_s: float,
    spread: float,
    lifetime_s: float,
    seed: int,
) -> None:
    the_job = job(
        23,
        "--schedule.videos_per_cohort=4",
        "--schedule.completions_per_video=2",
        "--schedule.epochs=2",
        f"--schedule.cohorts_per_update={cohorts_per_update}",
        f"--schedule.max_staleness={staleness}",
        f"--rollout.in_flight={in_flight}",
    )
    times = ServiceTimes(
        rollout_s=10,
        update_s=update_s,
        videos_at_once=2,
        rollout_spread=spread,
        worker_start_s=20,
        worker_lifetime_s=lifetime_s,
    )
    outcome = simulate(the_job, times, workers, seed)
    assert outcome.fates == {(epoch, f"v{i}"): 1 for epoch in range(2) for i in range(23)}
    assert outcome.staleness_max <= staleness
    assert outcome.updates == the_job.sizes.updates


def busy_fleet(staleness: int, in_flight: str) -> Job:
    return job(
        2048,
        "--schedule.videos_per_cohort=8",
        "--schedule.cohorts_per_update=8",
        "--schedule.completions_per_video=2",
        "--schedule.epochs=1",
        f"--schedule.max_staleness={staleness}",
        f"--rollout.in_flight={in_flight}",
    )


def test_overlap_hides_the_shorter_phase() -> None:
    """Sampling and learning take 20 s each: one after the other 40 s a step, side by side hardly over 20."""
    times = ServiceTimes(rollout_s=20, update_s=20, videos_at_once=8, rollout_spread=0, sync_s=0.5)
    one_after_the_other = simulate(busy_fleet(0, "keep"), times, workers=8)
    overlapped = simulate(busy_fleet(1, "keep"), times, workers=8)
    assert overlapped.step_s <= 1.15 * 20
    assert one_after_the_other.step_s / overlapped.step_s >= 1.5
    assert overlapped.learner_idle_share < 0.15 < one_after_the_other.learner_idle_share


def test_keeping_requests_spares_the_fleet_the_wait_for_the_slowest() -> None:
    times = ServiceTimes(rollout_s=20, update_s=4, videos_at_once=4, rollout_spread=0.6, sync_s=0.5)
    kept = simulate(busy_fleet(2, "keep"), times, workers=8)
    finished = simulate(busy_fleet(2, "finish"), times, workers=8)
    assert kept.rollout_idle_share < finished.rollout_idle_share
    assert kept.step_s < finished.step_s


@pytest.mark.slow
def test_256_workers_are_kept_busy_by_less_than_one_core() -> None:
    """Rollout is the bottleneck here, as on a well-planned cluster: its places must not stand empty."""
    the_job = job(
        16384,
        "--schedule.videos_per_cohort=16",
        "--schedule.cohorts_per_update=4",
        "--schedule.completions_per_video=2",
        "--schedule.epochs=1",
        "--schedule.max_staleness=12",
        "--rollout.in_flight=keep",
    )
    times = ServiceTimes(
        rollout_s=60, update_s=10, videos_at_once=1, sync_s=0.5, worker_start_s=60, worker_lifetime_s=86400
    )
    outcome = simulate(the_job, times, workers=256)
    assert outcome.controller_share < 1
    assert outcome.rollout_idle_share < 0.10
    assert outcome.failed == 0
