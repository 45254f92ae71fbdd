"""Runs the real controller and buffer in virtual time, with workers that only wait.

    outcome = simulate(job, ServiceTimes(rollout_s=20, update_s=30), workers=256)

Days of training with hundreds of workers take seconds to simulate. So a cluster can be planned before it is
rented, and the controller's invariants can be tested with more workers than a test machine can run.
"""

import asyncio
import selectors
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from cluster.controller import Controller
from cluster.planning.service_times import ServiceTimes
from cluster.planning.simulated_workers import SimulatedWorkers
from cluster.preflight import Job
from cluster.run_actors import RunActors
from monitoring.run_dir import RunDirectory

T = TypeVar("T")

WARM_UP = 10
"""Number of first updates that `period_s` leaves out, because the fleet is still empty at the start."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a simulated run.

    `rollout_idle_share`: share of unused slots in the workers' batches; if tokens are simulated, the share of
    seconds without a sequence. `learner_idle_share`: share of the learner's time. `controller_share`: real
    CPU time, including the simulation's, divided by virtual time. `period_s`: time between two pushes after
    the start. `phases`: the learner's seconds per update, by activity.
    """

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
    period_s: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)
    checkpoints: list[tuple[float, float]] = field(repr=False, default_factory=list)
    """For each checkpoint, the times at which its writing began and at which it was on disk."""
    evaluated: list[set[int]] = field(repr=False, default_factory=list)
    """The versions that answered in each evaluation. Invariant: exactly one."""
    fates: dict[tuple[int, str], int] = field(repr=False, default_factory=dict)
    """How often each (epoch, video) was finished. Invariant: exactly once."""


def simulate(job: Job, times: ServiceTimes, workers: int, seed: int = 0) -> Outcome:
    """Run the real controller with `workers` simulated workers, in virtual time.

    Only the videos, cohorts and counts of `job` matter: nothing is decoded, scored or saved.
    """
    quiet = job.config.model_copy(
        update={
            "evaluation": job.config.evaluation.model_copy(update={"every_updates": 0}),
            "learner": job.config.learner.model_copy(update={"early_reference": times.early_reference}),
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
    places = 1 if times.engine else times.videos_at_once
    pushes = fakes.pushes[WARM_UP - 1 if len(fakes.pushes) > 2 * WARM_UP else 0 :]
    (first_s, before), (last_s, after) = pushes[0], pushes[-1]
    counted = max(1, len(pushes) - 1)
    return Outcome(
        updates=updates,
        seconds=seconds,
        step_s=seconds / updates,
        staleness_mean=sum(fakes.staleness) / max(1, len(fakes.staleness)),
        staleness_max=max(fakes.staleness, default=0),
        rollout_idle_share=1 - fakes.served_s / (workers * places * seconds),
        learner_idle_share=1 - fakes.spent_s["update"] / seconds,
        controller_share=processor_s / seconds,
        worker_deaths=fakes.deaths,
        videos_per_s=len(groups) / seconds,
        trained=sum(g["status"] == "trained" for g in groups),
        failed=len(failures),
        period_s=(last_s - first_s) / counted,
        phases={name: (spent - before[name]) / counted for name, spent in after.items()},
        checkpoints=fakes.checkpoints,
        evaluated=fakes.evaluated,
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
    """A selector that never sleeps. Instead of waiting for the next timer, it advances the clock to it."""

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
    """An event loop whose `time()` is virtual seconds since the start. Threads and sockets run in real
    time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Do the same as `asyncio.run`, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
