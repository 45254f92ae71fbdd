"""Telling the dashboards in a process of their own, so that no update waits for a disk or a network."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.config import RunConfig
from monitoring.sinks.dashboards import Dashboards
from runtime.calls import DeadlineError, within

CALL_TIMEOUT_S = 300.0
"""Opening a run in Weights & Biases alone may take 90 s."""
MOST_WAITING = 1000


class DashboardActor:
    """A thin shell: forwards."""

    def __init__(self, config: RunConfig) -> None:
        self._dashboards = Dashboards(config)

    def begin(self, attempt: int, version: int) -> None:
        self._dashboards.begin(attempt, version)

    def update(self, version: int, values: Mapping[str, float], records: Sequence[Mapping[str, Any]]) -> None:
        self._dashboards.update(version, values, records)

    def scalars(self, version: int, values: Mapping[str, float]) -> None:
        self._dashboards.scalars(version, values)

    def close(self) -> None:
        self._dashboards.close()


def start_actor(config: RunConfig) -> Any:
    """The actor, beside the process that calls: nodes that come and go with the load do not take it along."""
    actor: Any = ray.remote(DashboardActor)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return actor.options(num_cpus=0, scheduling_strategy=here).remote(config)


class DashboardFeed:
    """Hands calls to the actor, one after another, and never waits for it but in `close`.

    A dashboard is no reason to end a run: with the first call that fails, passes its deadline or finds no
    room to wait in, the dashboards are given up, and `on_lost` is told why. The run directory has it all.
    """

    def __init__(self, actor: Any, on_lost: Callable[[str], None], timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._actor = actor
        self._on_lost = on_lost
        self._timeout_s = timeout_s
        self._calls: asyncio.Queue[tuple[str, tuple[Any, ...]]] = asyncio.Queue(MOST_WAITING)
        self._lost = False
        self._feeding = asyncio.create_task(self._feed())

    def tell(self, call: str, *arguments: Any) -> None:
        """Have `call` of the actor made when those before it are done."""
        if self._lost:
            return
        try:
            self._calls.put_nowait((call, arguments))
        except asyncio.QueueFull:
            self._lose(f"{MOST_WAITING} calls wait for the dashboards")

    async def close(self, timeout_s: float) -> None:
        """Let the actor finish what it was told, for `timeout_s` at most, and end it."""
        self.tell("close")
        try:
            await within(self._calls.join(), timeout_s, "dashboards.close")
        except DeadlineError as error:
            self._lose(str(error))
        self._feeding.cancel()
        await asyncio.gather(self._feeding, return_exceptions=True)
        ray.kill(self._actor)

    async def _feed(self) -> None:
        while True:
            call, arguments = await self._calls.get()
            try:
                if not self._lost:
                    answer = getattr(self._actor, call).remote(*arguments)
                    await within(answer, self._timeout_s, f"dashboards.{call}")
            except (ray.exceptions.RayError, DeadlineError) as error:
                cause = getattr(error, "cause", None) or error
                self._lose(f"{type(cause).__name__}: {cause}")
            finally:
                self._calls.task_done()

    def _lose(self, reason: str) -> None:
        if not self._lost:
            self._lost = True
            self._on_lost(reason)
