"""A simulated replacement of a run's actors: it accepts the same calls and returns after given times."""

import asyncio
import contextlib
import math
import random
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cluster.planning.engines import Lost, TimedEngine, TokenEngine
from cluster.planning.service_times import EvaluationLoad, ServiceTimes
from cluster.preflight import Job
from data.frames import FrameInfo
from data.records import Completion, Group, SamplingRequest, VideoRef
from learner.records import ReferenceLogprobs
from rewards.cohort import CohortTexts, RewardTable, score_cohort
from rollout.environment import in_flight
from rollout.errors import RolloutFailed
from rollout.router import Router
from rollout.worker import WorkerStats

Engine = TimedEngine | TokenEngine


class SimulatedWorkers:
    """Has the interface of `RunActors`; its calls return after the given times."""

    def __init__(self, job: Job, times: ServiceTimes, workers: int, seed: int) -> None:
        self._config = job.config
        self._total = job.sizes.updates
        self._times = times
        self._dice = random.Random(seed)
        self.version = 0
        """Policy version that the learner holds; `_served_version` is the version that the engines hold."""
        self._served_version = 0
        self._engines = [self._new_engine() for _ in range(workers)]
        by_tokens = times.engine is not None
        self._router: Router[Engine] = Router(
            job.config.rollout.max_concurrent_sequences if by_tokens else times.videos_at_once
        )
        for engine in self._engines:
            self._router.join(engine)
        self._decoding = asyncio.Semaphore(times.decode_slots or 10**9)
        self._learner = asyncio.Lock()
        self._background: set[asyncio.Task[None]] = set()
        self._evaluation: asyncio.Task[None] | None = None
        self._served_s = 0.0
        self.deaths = 0
        self.staleness: list[int] = []
        self.spent_s = dict.fromkeys(("early reference", "update", "push", "evaluation", "checkpoint"), 0.0)
        """The learner's seconds by activity. The remaining time it waited for answers."""
        self.pushes: list[tuple[float, dict[str, float]]] = []
        """The time at which each push ended, and `spent_s` at that time."""
        self.checkpoints: list[tuple[float, float]] = []
        self.evaluated: list[set[int]] = []

    @property
    def decoder(self) -> "SimulatedWorkers":
        return self

    fleet = rewards = learner = sync = decoder

    @property
    def served_s(self) -> float:
        """Total seconds for which slots in the workers' batches were in use."""
        return self._served_s + sum(engine.served_s for engine in self._engines)

    @property
    def outstanding_tokens(self) -> dict[str, int]:
        return {}

    @property
    def healthy(self) -> list[str]:
        return []

    @property
    def waiting(self) -> int:
        return self._router.waiting

    async def stats(self, timeout_s: float) -> list[WorkerStats]:
        return []  # the outcome of the simulation has what there is to know

    async def start(self, checkpoint: Path | None) -> dict[str, Any]:
        if math.isfinite(self._times.worker_lifetime_s):
            for engine in self._engines:
                self._in_background(self._live(engine))
        return {}

    async def close(self) -> None:
        if self._evaluation is not None:
            await self._evaluation
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    async def look(self, ref: VideoRef) -> tuple[FrameInfo, VideoRef]:
        async with self._decoding:
            await asyncio.sleep(self._times.decode_s)
        return FrameInfo((0,), 1, (1, 1), (1, 1), "none"), ref

    async def sample(self, requests: Sequence[SamplingRequest], frames: Any, cost_tokens: int) -> list[Group]:
        version = await self._answer(requests[0].ref.path, [len(request.seeds) for request in requests])
        return [self._group(request, version) for request in requests]

    async def score(self, cohort: CohortTexts) -> RewardTable:
        await asyncio.sleep(self._times.reward_s)
        return score_cohort(cohort, self._config.rewards)

    async def update(self, samples: Sequence[Any]) -> dict[str, float]:
        self.staleness += [self.version - sample.group.oldest_version for sample in samples]
        await self._end_eval(blocking_only=True)
        async with self._learner, self._spending("update"):
            known = sum(sample.reference is not None for sample in samples)
            early_s = self._reference_s(known)
            await asyncio.sleep(self._times.update_s - early_s if samples else 0.0)
            self.version += 1
        return {}

    async def reference(self, samples: Sequence[Any]) -> list[ReferenceLogprobs]:
        async with self._learner, self._spending("early reference"):
            await asyncio.sleep(self._reference_s(len(samples)))
        return [[] for _ in samples]

    def _reference_s(self, groups: int) -> float:
        schedule = self._config.schedule
        return self._times.reference_s * groups / (schedule.cohorts_per_update * schedule.videos_per_cohort)

    async def push(self) -> dict[str, float]:
        """Load the weights into every engine at once (`keep`), or after the engine has drained (`finish`).

        An evaluation in progress ends first: its answers belong to one version.
        """
        await self._end_eval()
        async with self._learner, self._spending("push"):
            await asyncio.sleep(self._times.gather_s)
            await self._load_everywhere()
        self.pushes.append((asyncio.get_running_loop().time(), dict(self.spent_s)))
        load = self._times.evaluation
        if load is not None and self.version % load.every_updates == 0 and self.version < self._total:
            self._evaluation = asyncio.create_task(self._evaluate(load))
        return {}

    async def save(self, folder: Path, extra: dict[str, Any]) -> None:
        load, began_s = self._times.checkpoint, asyncio.get_running_loop().time()
        await self._checkpoint(load.write_s if load else 0.0)
        self.checkpoints.append((began_s, asyncio.get_running_loop().time()))

    async def snapshot(self) -> int:
        load = self._times.checkpoint
        await self._checkpoint(load.snapshot_s if load else 0.0)
        return self.version

    async def write_snapshot(self, folder: Path, extra: dict[str, Any]) -> None:
        load, began_s = self._times.checkpoint, asyncio.get_running_loop().time()
        await asyncio.sleep(load.write_s if load else 0.0)
        self.checkpoints.append((began_s, asyncio.get_running_loop().time()))

    async def export_hf(self, folder: Path) -> None:
        folder.mkdir()

    def _new_engine(self) -> Engine:
        times = self._times
        if times.engine is None:
            return TimedEngine(self._dice, times.rollout_s, times.rollout_spread)
        return TokenEngine(times.engine)

    async def _answer(self, path: str, answers: Sequence[int]) -> int:
        """Make an engine answer requests for the given numbers of answers; returns the version at their
        start."""
        cap = self._config.rollout.max_completion_tokens
        lengths = [[self._times.answers.draw(self._dice, cap) for _ in range(n)] for n in answers]
        cost = sum(answers) if self._times.engine else 1
        for _ in range(self._config.rollout.max_retries + 1):
            engine = await self._router.acquire(cost)
            try:
                async with engine.gate.entered():
                    version = self._served_version
                    await engine.serve(lengths)
                return version
            except Lost:
                continue
            finally:
                self._router.release(engine, cost)
        raise RolloutFailed(f"{path}: its workers died again and again")

    async def _load_everywhere(self) -> None:
        keep = in_flight(self._config.rollout) == "keep"
        engines = list(self._engines)
        async with contextlib.AsyncExitStack() as held:
            doors = (e.gate.closed() if keep else e.gate.drained() for e in engines)
            await asyncio.gather(*(held.enter_async_context(door) for door in doors))
            for engine in engines:
                engine.pause()
            await asyncio.sleep(self._times.sync_s)
            for engine in engines:
                engine.resume()
            self._served_version = self.version

    async def _end_eval(self, blocking_only: bool = False) -> None:
        load = self._times.evaluation
        if self._evaluation is None or load is None or (blocking_only and load.beside):
            return
        async with self._spending("evaluation"):
            await self._evaluation
        self._evaluation = None

    async def _checkpoint(self, seconds: float) -> None:
        """Occupy the learner for a checkpoint, after a blocking evaluation of the same version has ended."""
        await self._end_eval(blocking_only=True)
        async with self._learner, self._spending("checkpoint"):
            await asyncio.sleep(seconds)

    async def _evaluate(self, load: EvaluationLoad) -> None:
        places, versions = asyncio.Semaphore(load.in_flight), set()

        async def one(index: int) -> None:
            async with places:
                if not load.frames_kept:
                    async with self._decoding:
                        await asyncio.sleep(self._times.decode_s)
                versions.add(await self._answer(f"test {index}", [1]))

        await asyncio.gather(*(one(index) for index in range(load.videos)))
        self.evaluated.append(versions)

    @asynccontextmanager
    async def _spending(self, phase: str) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        yield
        self.spent_s[phase] += loop.time() - started_s

    def _group(self, request: SamplingRequest, version: int) -> Group:
        answers = [f"<think></think><answer>{self._dice.uniform(1, 5):.2f}</answer>" for _ in request.seeds]
        completions = [Completion([0], [0.0], text, "stop", [version]) for text in answers]
        return Group(request.ref, [0], completions, "simulated")

    async def _live(self, engine: Engine) -> None:
        """Let `engine` die at a random time, and replace it."""
        await asyncio.sleep(self._dice.expovariate(1 / self._times.worker_lifetime_s))
        self.deaths += 1
        self._engines.remove(engine)
        self._served_s += engine.served_s
        self._router.leave(engine)
        engine.died.set()
        await asyncio.sleep(self._times.worker_start_s)
        successor = self._new_engine()
        self._engines.append(successor)
        self._router.join(successor)
        self._in_background(self._live(successor))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
