"""Stand-ins for the actors of a run, and the run of a real controller over them.

The protocols say what the controller asks of its actors. Fakes and real classes satisfy the same ones: mypy
checks both, at the end of this file and where a fake is passed on.
"""

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from cluster.config import RunConfig, derive_sizes, load_config
from cluster.controller import Controller
from cluster.planning.simulated_workers import SimulatedWorkers
from cluster.preflight import Job
from cluster.run_actors import RunActors
from data.facts import VideoFacts
from data.frames import FrameInfo
from data.records import Completion, Group, SamplingRequest, Video, VideoRef
from data.sampler import CohortSampler
from data.video_file import VideoError
from learner.checkpoint import CheckpointError
from learner.group import LearnerFailed
from learner.inputs import PromptMismatch
from monitoring.run_dir import RunDirectory
from rewards.cohort import CohortTexts, RewardTable, score_cohort
from rollout.errors import RolloutFailed
from rollout.worker import WorkerStats


class DecoderCalls(Protocol):
    """Of `data.decode.Decoder`."""

    async def look(self, ref: VideoRef) -> tuple[FrameInfo, Any]: ...


class FleetCalls(Protocol):
    """Of `rollout.fleet.RolloutFleet`."""

    @property
    def healthy(self) -> list[str]: ...

    @property
    def outstanding_tokens(self) -> dict[str, int]: ...

    @property
    def waiting(self) -> int: ...

    async def sample(
        self, requests: Sequence[SamplingRequest], frames: Any, cost_tokens: int
    ) -> list[Group]: ...

    async def stats(self, timeout_s: float) -> list[WorkerStats]: ...


class RewardCalls(Protocol):
    """Of `rewards.pool.RewardPool`."""

    async def score(self, cohort: CohortTexts) -> RewardTable: ...


class LearnerCalls(Protocol):
    """Of `learner.group.LearnerGroup`."""

    async def update(self, samples: Sequence[Any]) -> dict[str, float]: ...

    async def reference(self, samples: Sequence[Any]) -> list[list[np.ndarray]]: ...

    @property
    def version(self) -> int: ...

    async def save(self, folder: Path, extra: dict[str, Any]) -> None: ...

    async def snapshot(self) -> int: ...

    async def write_snapshot(self, folder: Path, extra: dict[str, Any]) -> None: ...

    async def export_hf(self, folder: Path) -> None: ...


class SyncCalls(Protocol):
    """Of `cluster.weight_sync.WeightSync`."""

    async def push(self) -> dict[str, float]: ...


class ActorsOfRun(Protocol):
    """Of `cluster.run_actors.RunActors`."""

    @property
    def decoder(self) -> DecoderCalls: ...

    @property
    def fleet(self) -> FleetCalls: ...

    @property
    def rewards(self) -> RewardCalls: ...

    @property
    def learner(self) -> LearnerCalls: ...

    @property
    def sync(self) -> SyncCalls: ...

    @property
    def may_join(self) -> asyncio.Event: ...

    async def start(self, checkpoint: Path | None) -> dict[str, Any]: ...

    async def restart_learner(self, checkpoint: Path | None) -> dict[str, Any]: ...

    async def close(self) -> None: ...


N_VIDEOS = 19
UNREADABLE, UNSAMPLEABLE, UNANIMOUS, DAMAGED = "v03", "v07", "v11", "v05"


@dataclass
class FakeWorkers:
    """Answers like the real thing, after random delays, and writes down what it was asked."""

    config: RunConfig
    delays: random.Random
    version: int = 0
    updates: int = 0
    asked: list[SamplingRequest] = field(default_factory=list)
    trained: list[tuple[int, list[str]]] = field(default_factory=list)
    saved: dict[int, dict[str, Any]] = field(default_factory=dict)
    fail_at_update: int | None = None
    fail_to_write_at: int | None = None
    slow_writes: set[int] = field(default_factory=set)
    updates_while_writing: int = 0
    learner_dies_at: list[int] = field(default_factory=list)
    mismatch_at: int | None = None
    not_finite: set[int] = field(default_factory=set)
    learner_starts: int = 0
    looks: int = 0
    closed: bool = False
    referred: list[str] = field(default_factory=list)
    given: list[tuple[int, list[str]]] = field(default_factory=list)
    overtaken: set[int] = field(default_factory=set)
    slow_video: str = ""
    evaluated: list[tuple[str, int, int]] = field(default_factory=list)
    may_join: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def decoder(self) -> "FakeWorkers":
        return self

    fleet = rewards = learner = sync = decoder

    async def start(self, checkpoint: Path | None) -> dict[str, Any]:
        self.learner_starts += 1
        self.updates = 0 if checkpoint is None else int(checkpoint.name[1:])
        return {} if checkpoint is None else {"version": self.updates}

    async def restart_learner(self, checkpoint: Path | None) -> dict[str, Any]:
        return await self.start(checkpoint)

    async def close(self) -> None:
        self.closed = True

    async def _wait(self) -> None:
        await asyncio.sleep(self.delays.random() * 0.004)

    async def look(self, ref: VideoRef) -> tuple[FrameInfo, Any]:
        await self._wait()
        if ref.video_id == UNREADABLE:
            raise VideoError(ref.path, "it ends at 2.0 of its 4.0 s", "truncated")
        facts = VideoFacts(damaged_frames=(3,)) if ref.video_id == DAMAGED else VideoFacts()
        return FrameInfo((3,), 9, (1, 1), (1, 1), "none", facts), ref

    async def sample(self, requests: Sequence[SamplingRequest], frames: Any, cost_tokens: int) -> list[Group]:
        version = self.version
        await self._wait()
        if requests[0].ref.video_id == self.slow_video:
            await asyncio.sleep(0.2)
        if requests[0].temperature == 0:
            await self._be_overtaken(version)
            self.evaluated.append((requests[0].ref.video_id, version, self.updates))
        if requests[0].ref.video_id == UNSAMPLEABLE:
            raise RolloutFailed(f"{requests[0].ref.path}: three workers died of it")
        self.asked += requests
        return [self._group(request, version) for request in requests]

    async def _be_overtaken(self, version: int) -> None:
        """Wait until the learner has made the update behind a version in `overtaken`, if it ever does."""
        for _ in range(500):
            if version not in self.overtaken or self.updates > version:
                return
            await asyncio.sleep(0.01)

    def _group(self, request: SamplingRequest, version: int) -> Group:
        def answer(seed: int | None) -> str:
            score = 3.0 if request.ref.video_id == UNANIMOUS else 1 + ((seed or 0) % 400) / 100
            return f"<think>a</think><answer>{score:.2f}</answer>"

        completions = [
            Completion([1, 2], [-0.1, -0.2], answer(s), "stop", [version] * 2, s) for s in request.seeds
        ]
        return Group(request.ref, [5, 6, 7], completions, "fake-0")

    async def score(self, cohort: CohortTexts) -> RewardTable:
        await self._wait()
        return score_cohort(cohort, self.config.rewards)

    @property
    def healthy(self) -> list[str]:
        return ["fake-0", "fake-1"]

    @property
    def outstanding_tokens(self) -> dict[str, int]:
        return {"fake-0": 64, "fake-1": 0}

    @property
    def waiting(self) -> int:
        return 3

    async def stats(self, timeout_s: float) -> list[WorkerStats]:
        """The second worker dies before it has answered twice."""
        await self._wait()
        n = self.looks = self.looks + 1
        busy = WorkerStats("fake-0", self.version, n, 40 * n, 10 * n, 100 * n, 3.0 * n, 4.0 * n)
        return [busy, WorkerStats("fake-1", self.version, 0, 0, 0, 0, 0.0, 0.0)] if n == 1 else [busy]

    async def update(self, samples: Sequence[Any]) -> dict[str, float]:
        await self._wait()
        version = self.updates
        if version == self.fail_at_update:
            raise RuntimeError("a rank died")
        if version == self.mismatch_at:
            raise PromptMismatch("the engine's prompt has 296 tokens, the learner's 152")
        if version in self.learner_dies_at:
            self.learner_dies_at.remove(version)
            raise LearnerFailed(f"rank 1 died in update {version}\n\tclass_name: LearnerRank")
        if version in self.not_finite:
            self.updates += 1
            return {"learner/loss": math.nan, "learner/skipped": 1.0}
        self.updates += 1
        if not samples:
            return {}
        self.given.append((version, [s.group.ref.video_id for s in samples if s.reference is not None]))
        for sample in samples:
            assert sample.reference is None or sample.reference == reference_of(sample)
        self.trained.append((version, [s.group.ref.video_id for s in samples]))
        return {"learner/loss": 0.0}

    async def reference(self, samples: Sequence[Any]) -> list[list[np.ndarray]]:
        await self._wait()
        self.referred += [s.group.ref.video_id for s in samples]
        return [reference_of(s) for s in samples]

    async def push(self) -> dict[str, float]:
        await self._wait()
        self.version = self.updates
        return {"sync/s": 0.0}

    async def save(self, folder: Path, extra: dict[str, Any]) -> None:
        folder.mkdir(parents=True)
        (folder / "checkpoint.json").write_text("{}")
        self.saved[self.updates] = extra

    async def snapshot(self) -> int:
        await self._wait()
        return self.updates

    async def write_snapshot(self, folder: Path, extra: dict[str, Any]) -> None:
        """Takes as long as several updates do; the first time for a version in `slow_writes`, a minute."""
        updates = self.updates
        if extra["version"] in self.slow_writes:
            self.slow_writes.remove(extra["version"])
            await asyncio.sleep(60)
        for _ in range(8):
            await self._wait()
        self.updates_while_writing += self.updates - updates
        if self.fail_to_write_at == extra["version"]:
            raise CheckpointError(f"{folder} cannot be written (OSError: No space left on device)")
        folder.mkdir(parents=True)
        (folder / "checkpoint.json").write_text("{}")
        self.saved[extra["version"]] = extra

    async def export_hf(self, folder: Path) -> None:
        folder.mkdir()


def reference_of(sample: Any) -> list[Any]:
    """Stands for the log-probs of a sample's completions."""
    return [(sample.group.ref.video_id, completion.seed) for completion in sample.group.completions]


def job(*overrides: str) -> Job:
    config = load_config(
        None,
        [
            "--schedule.videos_per_cohort=4",
            "--schedule.completions_per_video=2",
            "--schedule.epochs=2",
            "--evaluation.every_updates=4",
            "--evaluation.samples=2",
            "--evaluation.bootstrap_samples=100",
            "--checkpoint.every_updates=3",
            "--metrics.tensorboard=false",
            "--metrics.prometheus=false",
            *overrides,
        ],
    )
    videos = [Video(f"v{i:02d}", f"/v{i:02d}.mp4", 1 + i % 5, "train") for i in range(N_VIDEOS)]
    sampler = CohortSampler(videos, 4, config.seed, config.data.frames_per_video, temporal=config.temporal)
    sizes = derive_sizes(config, len(videos), sampler.cohorts_per_epoch)
    held_out = [Video(f"t{i}", f"/t{i}.mp4", 1 + i % 5, "test", source=f"s{i}") for i in range(6)]
    return Job(config, videos, {"test": held_out}, sampler, sizes)


def controller_over(fakes: ActorsOfRun, job: Job, run: RunDirectory, resume: bool = False) -> Controller:
    return Controller(job, run, resume, make_actors=lambda *_: cast(RunActors, fakes))


def run_job(
    job: Job, folder: Path, delays: int = 0, resume: bool = False, **faults: Any
) -> tuple[RunDirectory, FakeWorkers, dict[str, Any]]:
    run = RunDirectory(folder)
    if not resume:
        run.create("{}", "")
    fakes = FakeWorkers(job.config, random.Random(delays), **faults)
    controller = controller_over(fakes, job, run, resume)
    summary = asyncio.run(asyncio.wait_for(controller.run(), 60))
    return run, fakes, summary


def the_real_ones(actors: RunActors) -> ActorsOfRun:
    """Checked by mypy: the real classes satisfy the protocols, too."""
    return actors


def the_simulated_ones(actors: SimulatedWorkers) -> tuple[FleetCalls, RewardCalls, LearnerCalls, SyncCalls]:
    """Checked by mypy, for the simulation casts them."""
    return actors, actors, actors, actors
