"""The control loop in virtual time: the real controller and buffer, with workers that only take time.

    outcome = simulate(job, ServiceTimes(rollout_s=20, update_s=30), workers=256)

Hundreds of workers and days of training pass in seconds, so that a cluster can be planned before it is
rented, and the controller's invariants be tested at a size that no test machine has.
"""

import asyncio
import contextlib
import math
import random
import selectors
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from cluster.controller import Controller
from cluster.preflight import Job
from cluster.run_actors import RunActors
from data.frames import FrameInfo
from data.records import Completion, Group, SamplingRequest, VideoRef
from monitoring.run_dir import RunDirectory
from rewards.cohort import CohortTexts, RewardTable, score_cohort
from rollout.drain_gate import DrainGate
from rollout.environment import in_flight
from rollout.errors import RolloutFailed
from rollout.router import Router
from rollout.worker import WorkerStats

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """How long things take, in seconds. `rollout_s` is one video with all its groups on one worker that is
    busy with `videos_at_once` of them; `rollout_spread` the sigma of its log-normal spread (0: none)."""

    rollout_s: float
    update_s: float
    videos_at_once: int = 8
    rollout_spread: float = 0.3
    decode_s: float = 0.5
    reward_s: float = 0.01
    sync_s: float = 2.0
    worker_start_s: float = 120.0
    worker_lifetime_s: float = math.inf
    """Mean time until a worker dies, exponentially distributed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulated run came to. Idle shares are of places in the workers' batches, and of the learner's
    time; `controller_share` is real processor time, the simulation's own included, over virtual time."""

    updates: int
    seconds: float
    step_s: float
    staleness_mean: float
    staleness_max: int
    rollout_idle_share: float
    learner_idle_share: float
    controller_share: float
    worker_deaths: int
    videos_per_s: float
    trained: int
    failed: int
    fates: dict[tuple[int, str], int] = field(repr=False, default_factory=dict)
    """How often each (epoch, video) ended; the invariant is once."""


class _Lost(Exception):
    """The worker died under a request."""


class _Worker:
    """One simulated engine, with a gate in front of it as the real one has."""

    def __init__(self) -> None:
        self.gate = DrainGate()
        self.died = asyncio.Event()
        self.served_s = self.stood_s = 0.0

    async def serve(self, seconds: float) -> None:
        """Take `seconds` of a place in the batch, standstills apart. Raises _Lost if the worker dies."""
        left_s = seconds
        while left_s > 0:
            stood_s = self.stood_s
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.died.wait(), left_s)
            if self.died.is_set():
                raise _Lost
            left_s = self.stood_s - stood_s
        self.served_s += seconds


class SimulatedWorkers:
    """Takes the place of `RunActors`: the same calls, answered after the given times."""

    def __init__(self, job: Job, times: ServiceTimes, workers: int, seed: int) -> None:
        self._config = job.config
        self._times = times
        self._dice = random.Random(seed)
        self._version = self._updates = 0
        self._workers = [_Worker() for _ in range(workers)]
        self._router: Router[_Worker] = Router(times.videos_at_once)
        for worker in self._workers:
            self._router.join(worker)
        self._background: set[asyncio.Task[None]] = set()
        self._served_s = 0.0
        self.learning_s = 0.0
        self.deaths = 0
        self.staleness: list[int] = []

    @property
    def decoder(self) -> "SimulatedWorkers":
        return self

    fleet = rewards = learner = sync = decoder

    @property
    def served_s(self) -> float:
        """Seconds of places in batches that were put to use, all workers together."""
        return self._served_s + sum(worker.served_s for worker in self._workers)

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
            for worker in self._workers:
                self._in_background(self._live(worker))
        return {}

    async def close(self) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    async def look(self, ref: VideoRef) -> tuple[FrameInfo, VideoRef]:
        await asyncio.sleep(self._times.decode_s)
        return FrameInfo((0,), 1, (1, 1), (1, 1), "none"), ref

    async def sample(self, requests: Sequence[SamplingRequest], frames: Any, cost_tokens: int) -> list[Group]:
        for _ in range(self._config.rollout.max_retries + 1):
            worker = await self._router.acquire(1)
            try:
                async with worker.gate.entered():
                    version = self._version
                    await worker.serve(self._draw())
                return [self._group(request, version) for request in requests]
            except _Lost:
                continue
            finally:
                self._router.release(worker, 1)
        raise RolloutFailed(f"{requests[0].ref.path}: its workers died again and again")

    async def score(self, cohort: CohortTexts) -> RewardTable:
        await asyncio.sleep(self._times.reward_s)
        return score_cohort(cohort, self._config.rewards)

    async def update(self, samples: Sequence[Any]) -> dict[str, float]:
        self.staleness += [self._updates - sample.group.oldest_version for sample in samples]
        self._updates += 1
        if samples:
            await asyncio.sleep(self._times.update_s)
            self.learning_s += self._times.update_s
        return {}

    async def push(self) -> dict[str, float]:
        """Every worker takes the weights at once (`keep`), or once it has drained (`finish`)."""
        keep = in_flight(self._config.rollout) == "keep"
        workers = list(self._workers)
        async with contextlib.AsyncExitStack() as held:
            doors = (w.gate.closed() if keep else w.gate.drained() for w in workers)
            await asyncio.gather(*(held.enter_async_context(door) for door in doors))
            for worker in workers:
                worker.stood_s += self._times.sync_s
            await asyncio.sleep(self._times.sync_s)
            self._version = self._updates
        return {}

    @property
    def version(self) -> int:
        return self._updates

    async def save(self, folder: Path, extra: dict[str, Any]) -> None:
        pass

    async def snapshot(self) -> int:
        return self._updates

    async def write_snapshot(self, folder: Path, extra: dict[str, Any]) -> None:
        pass

    async def export_hf(self, folder: Path) -> None:
        folder.mkdir()

    def _draw(self) -> float:
        spread = self._times.rollout_spread
        # The mean of the log-normal is kept at `rollout_s`, whatever its spread.
        return self._times.rollout_s * self._dice.lognormvariate(-(spread**2) / 2, spread)

    def _group(self, request: SamplingRequest, version: int) -> Group:
        answers = [f"<think></think><answer>{self._dice.uniform(1, 5):.2f}</answer>" for _ in request.seeds]
        completions = [Completion([0], [0.0], text, "stop", [version]) for text in answers]
        return Group(request.ref, [0], completions, "simulated")

    async def _live(self, worker: _Worker) -> None:
        """Let `worker` die at a random time, and put another in its place."""
        await asyncio.sleep(self._dice.expovariate(1 / self._times.worker_lifetime_s))
        self.deaths += 1
        self._workers.remove(worker)
        self._served_s += worker.served_s
        self._router.leave(worker)
        worker.died.set()
        await asyncio.sleep(self._times.worker_start_s)
        successor = _Worker()
        self._workers.append(successor)
        self._router.join(successor)
        self._in_background(self._live(successor))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def simulate(job: Job, times: ServiceTimes, workers: int, seed: int = 0) -> Outcome:
    """Run the real controller on `workers` simulated ones, in virtual time.

    Only videos, cohorts and counts of `job` matter: nothing is decoded, judged or saved.
    """
    quiet = job.config.model_copy(
        update={
            "evaluation": job.config.evaluation.model_copy(update={"every_updates": 0}),
            "metrics": job.config.metrics.model_copy(update={"tensorboard": False, "wandb": "off"}),
        }
    )
    job = replace(job, config=quiet, evaluation={})
    started_s = time.process_time()
    with tempfile.TemporaryDirectory(prefix="simulation-") as folder:
        run = RunDirectory(Path(folder))
        run.create("{}", "")
        fakes, seconds = run_in_virtual_time(_simulate(job, run, times, workers, seed))
        processor_s = time.process_time() - started_s
        groups, failures = list(run.read_lines("groups")), list(run.read_lines("failures"))
    updates = job.sizes.updates
    places_s = workers * times.videos_at_once * seconds
    return Outcome(
        updates=updates,
        seconds=seconds,
        step_s=seconds / updates,
        staleness_mean=sum(fakes.staleness) / max(1, len(fakes.staleness)),
        staleness_max=max(fakes.staleness, default=0),
        rollout_idle_share=1 - fakes.served_s / places_s,
        learner_idle_share=1 - fakes.learning_s / seconds,
        controller_share=processor_s / seconds,
        worker_deaths=fakes.deaths,
        videos_per_s=len(groups) / seconds,
        trained=sum(g["status"] == "trained" for g in groups),
        failed=len(failures),
        fates=Counter((r["epoch"], r["video_id"]) for r in [*groups, *failures]),
    )


async def _simulate(
    job: Job, run: RunDirectory, times: ServiceTimes, workers: int, seed: int
) -> tuple[SimulatedWorkers, float]:
    fakes = SimulatedWorkers(job, times, workers, seed)
    controller = Controller(job, run, resume=False, make_actors=lambda *_: cast(RunActors, fakes))
    await controller.run()
    return fakes, asyncio.get_running_loop().time()


class _JumpingSelector(selectors.DefaultSelector):
    """Never sleeps: where the loop would wait for its next timer, the clock moves there instead."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError("every task waits for another, and no timer is set: a deadlock")
        self.now_s += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """`time()` is virtual seconds since the start. Threads and sockets do not take part in it."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Like `asyncio.run`, on a clock that jumps."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
