"""Ray actors that only take time, under the real fleet, reward pool and weight sync.

So a machine of two cores shows what the control loop does with many of them.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import ray

from benchmarks.sleeping_actors import CALL_TIMEOUT_S, SleepingEngine, SleepingRank, TokenSleepingEngine
from cluster.config import RunConfig, derive_sizes, load_config
from cluster.planning.service_times import ServiceTimes
from cluster.preflight import Job
from cluster.run_actors import RunActors
from cluster.weight_sync import ObjectStoreSync
from data.frames import FrameInfo
from data.records import Video, VideoRef, Weights
from data.sampler import CohortSampler
from learner.group import LearnerGroup
from learner.records import ReferenceLogprobs
from rewards.pool import RewardPool
from rollout.fleet import RolloutFleet
from runtime.actors import RemoteCall, remote

T = TypeVar("T")


class SleepingLearner:
    """A learner group whose ranks sleep for each update, for gathering weights and for checkpoints."""

    def __init__(self, times: ServiceTimes, ranks: int, groups_per_update: int) -> None:
        self._times = times
        self._count = ranks
        self._reference_s = times.reference_s / groups_per_update
        self._ranks: list[Any] = []
        self.version = 0

    async def start(self) -> None:
        self._ranks = [ray.remote(SleepingRank).options(num_cpus=0).remote() for _ in range(self._count)]
        await self._ask_all(remote(SleepingRank.sleep, 0.0))

    async def update(self, samples: Sequence[Any]) -> dict[str, float]:
        known_s = self._reference_s * sum(sample.reference is not None for sample in samples)
        seconds = self._times.update_s - known_s if samples else 0.0
        metrics = (await self._ask_all(remote(SleepingRank.update, seconds)))[0]
        self.version += 1
        return metrics | {"controller/processor_s": time.process_time()}

    async def reference(self, samples: Sequence[Any]) -> list[ReferenceLogprobs]:
        await self._ask_all(remote(SleepingRank.sleep, self._reference_s * len(samples)))
        return [[] for _ in samples]

    async def weight_buckets(self) -> Weights:
        await self._ask_all(remote(SleepingRank.sleep, self._times.gather_s))
        buckets = await remote(SleepingRank.weight_buckets).on(
            self._ranks[0], "sleeping rank", CALL_TIMEOUT_S
        )
        return Weights(self.version, buckets)

    async def save(self, folder: Path, extra: dict[str, Any]) -> None:
        if self._times.checkpoint is not None:
            await self._ask_all(remote(SleepingRank.sleep, self._times.checkpoint.write_s))

    async def snapshot(self) -> int:
        if self._times.checkpoint is not None:
            await self._ask_all(remote(SleepingRank.sleep, self._times.checkpoint.snapshot_s))
        return self.version

    async def write_snapshot(self, folder: Path, extra: dict[str, Any]) -> None:
        if self._times.checkpoint is not None:
            await asyncio.sleep(self._times.checkpoint.write_s)

    async def export_hf(self, folder: Path) -> None:
        folder.mkdir()

    async def close(self) -> None:
        for rank in self._ranks:
            ray.kill(rank)

    async def _ask_all(self, call: RemoteCall[SleepingRank, T]) -> list[T]:
        calls = (call.on(rank, "sleeping rank", CALL_TIMEOUT_S) for rank in self._ranks)
        return list(await asyncio.gather(*calls))


class _SleepingDecoder:
    """Every video has the same few frames, after `decode_s` in one of the slots."""

    def __init__(self, decode_s: float, slots: int) -> None:
        self._frames = ray.put(np.zeros((1, 8, 8, 3), np.uint8))
        self._decode_s = decode_s
        self._slots = asyncio.Semaphore(slots)

    async def look(self, ref: VideoRef) -> tuple[FrameInfo, ray.ObjectRef]:
        async with self._slots:
            await asyncio.sleep(self._decode_s)
        return FrameInfo((0,), 1, (8, 8), (8, 8), "none"), self._frames


class SleepingWorkers:
    """Takes the place of `cluster.run_actors.RunActors`. Fleet, rewards and weight sync are the real ones."""

    def __init__(
        self,
        job: Job,
        on_fault: Callable[[str, str], None],
        on_recovery: Callable[[str, str, float], None],
        times: ServiceTimes,
        ranks: int,
    ) -> None:
        config = self._config = job.config
        self.decoder = _SleepingDecoder(times.decode_s, config.decode_tasks)
        groups = config.schedule.videos_per_cohort * config.schedule.cohorts_per_update
        self.learner = SleepingLearner(times, ranks, groups)
        self.may_join = asyncio.Event()
        self.rewards = RewardPool(config.rewards, on_fault, on_recovery)
        self.fleet = RolloutFleet(
            config.rollout,
            model_path="",
            frames_per_video=1,
            seed=config.seed,
            on_join=self._join,
            on_fault=on_fault,
            on_recovery=on_recovery,
            worker_class=_engine_class(times),
        )
        self.sync = ObjectStoreSync(cast(LearnerGroup, self.learner), self.fleet, config)

    async def start(self, checkpoint: Path | None) -> dict[str, Any]:
        await asyncio.gather(self.learner.start(), self.rewards.start())
        # Last, for the others would wait behind dozens of new processes.
        await self.fleet.start(self._config.rollout.replicas)
        return {}

    async def close(self) -> None:
        await asyncio.gather(self.fleet.close(), self.learner.close(), self.rewards.close())

    async def _join(self, worker_id: str) -> None:
        await self.sync.join(worker_id)


def sleeping_workers(rollout_s: float, update_s: float) -> Callable[..., RunActors]:
    """For `Controller(make_actors=...)`.

    Args:
        rollout_s: seconds of one video on a worker, however many it has.
        update_s: seconds of an update.
    """
    return timed_workers(ServiceTimes(rollout_s, update_s, decode_s=0.0), ranks=1)


def timed_workers(times: ServiceTimes, ranks: int) -> Callable[..., RunActors]:
    """As `sleeping_workers`, with engines, ranks and decoders that take the times of a simulated run."""
    return lambda job, on_fault, on_recovery: cast(
        RunActors, SleepingWorkers(job, on_fault, on_recovery, times, ranks)
    )


def _engine_class(times: ServiceTimes) -> type[SleepingEngine]:
    if times.engine is None:
        return type("SleepingEngine", (SleepingEngine,), {"rollout_s": times.rollout_s})
    settings = {"speed": times.engine, "answers": times.answers, "load_s": times.sync_s}
    return type("TokenSleepingEngine", (TokenSleepingEngine,), settings)


def sleeping_job(n_videos: int, *overrides: str) -> Job:
    """A job on videos that do not exist, without evaluations, checkpoints and perturbed copies."""
    config = load_config(
        None,
        [
            "--rewards.temporal_weight=0",
            "--rollout.engine=async",
            "--evaluation.every_updates=0",
            "--checkpoint.every_updates=0",
            "--metrics.tensorboard=false",
            "--metrics.prometheus=false",
            "--schedule.epochs=1",
            *overrides,
        ],
    )
    return job_on(config, n_videos)


def job_on(config: RunConfig, n_videos: int) -> Job:
    """`config` on `n_videos` videos that do not exist."""
    videos = [Video(f"v{i}", f"/v{i}.mp4", 1 + i % 5, "train") for i in range(n_videos)]
    size = config.schedule.videos_per_cohort
    sampler = CohortSampler(videos, size, config.seed, config.data.frames_per_video, temporal=False)
    return Job(config, videos, {}, sampler, derive_sizes(config, n_videos, sampler.cohorts_per_epoch))
