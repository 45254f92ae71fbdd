"""Starts, replaces and ends rollout workers.

A worker becomes healthy once `on_join` has given it the current weights. A worker that dies or misses a
deadline is killed and replaced.

The lock `_membership` prevents joining during a weight update. A worker that joins before an update takes
part in it. A worker that joins afterwards gets the new weights from `on_join`. So a worker never becomes
healthy with weights that were replaced while it joined.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

import ray

from data.errors import permanent_cause
from data.frame_tokens import DEFAULT_FRAME_TOKENS, FrameTokens
from rollout.adapters import AdapterServing
from rollout.config import RolloutConfig
from rollout.draining import watch_drains
from rollout.errors import FleetExhausted
from rollout.member import Lost, Member, WorkerStatus, ask
from rollout.placement import Placement, place
from rollout.router import Router
from rollout.starting import RestartRate, enough_of
from rollout.worker import RolloutWorker, WorkerInfo
from runtime.actors import explained, fault_report, remote
from runtime.calls import DeadlineError, within

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 15.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 600.0
"""Pauses between attempts to start a worker while enough others are healthy. Each pause is twice the last."""


class Roster:
    """An elastic set of rollout workers.

    Args:
        adapters: settings for serving adapters; None if updates replace the whole weights.
        environment: environment variables for the workers, in addition to those of `engine_environment`.
        on_join: called with the id of a worker that has started; gives it the current weights. The worker is
            healthy when this returns.
        on_fault: called with the id of a worker that must be replaced, and the reason.
        on_recovery: called with the ids of a replaced worker and its successor, and the seconds in between.
        worker_class: the class of the actors.
        starting: context entered while an engine starts and measures its GPU's free memory.
    """

    def __init__(
        self,
        config: RolloutConfig,
        model_path: str,
        frames_per_video: int,
        seed: int,
        trust_remote_code: bool = False,
        frame_tokens: FrameTokens = DEFAULT_FRAME_TOKENS,
        placement_timeout_s: float = 300.0,
        adapters: AdapterServing | None = None,
        environment: Mapping[str, str] | None = None,
        on_join: Callable[[str], Awaitable[None]] | None = None,
        on_fault: Callable[[str, str], None] = lambda worker_id, reason: None,
        on_recovery: Callable[[str, str, float], None] = lambda worker_id, successor, seconds: None,
        worker_class: type = RolloutWorker,
        starting: Callable[[], AbstractAsyncContextManager[Any]] = nullcontext,
    ) -> None:
        self._config = config
        self._worker_arguments = (config, model_path, frames_per_video)
        self._seed = seed
        self._trust_remote_code = trust_remote_code
        self._frame_tokens = frame_tokens
        self._adapters = adapters
        self._placement_timeout_s = placement_timeout_s
        self._environment = dict(environment or {})
        self._on_join = on_join
        self._on_fault = on_fault
        self._on_recovery = on_recovery
        self._worker_class = worker_class
        self._starting = starting
        self._members: dict[str, Member] = {}
        self._router: Router[Member] = Router(config.max_concurrent_sequences * config.max_completion_tokens)
        self._numbers = itertools.count()
        self._replicas = 0
        self._resizing = asyncio.Lock()
        self._membership = asyncio.Lock()
        self._changed = asyncio.Condition()
        self._background: set[asyncio.Task[None]] = set()
        self._healing: set[asyncio.Task[None]] = set()
        """One task per worker that did not start with the others; a subset of `_background`."""
        self._restarts = 0
        self._rate = RestartRate(config.max_worker_restarts, config.restart_window_s)
        self._failure: FleetExhausted | None = None

    @property
    def healthy(self) -> list[str]:
        """Ids of the workers that can get requests."""
        return [member.worker_id for member in self._members.values() if member.healthy]

    @property
    def infos(self) -> list[WorkerInfo]:
        """The WorkerInfo that each healthy worker returned when it started."""
        return [m.info for m in self._members.values() if m.healthy and m.info is not None]

    @property
    def outstanding_tokens(self) -> dict[str, int]:
        """Estimated tokens of each healthy worker's unfinished requests, by worker id."""
        return {m.worker_id: self._router.outstanding(m) for m in self._members.values() if m.healthy}

    def overview(self) -> list[WorkerStatus]:
        """Return the status of all workers, including those that are starting or leaving."""
        return [
            WorkerStatus(
                m.worker_id,
                "healthy" if m.healthy else "leaving" if m.leaving else "starting",
                m.info.node if m.info else "",
                m.info.pid if m.info else None,
                self._router.outstanding(m),
            )
            for m in self._members.values()
        ]

    @property
    def restarts(self) -> int:
        """Number of failed workers replaced so far."""
        return self._restarts

    async def start(self, replicas: int) -> None:
        """Start `replicas` workers in parallel; returns once `rollout.min_replicas` of them are healthy.

        The others join when they have started. A worker that fails to start is retried in the background. Its
        error is raised instead if a retry would fail too, or if too few workers are left.
        """
        async with self._resizing:
            launches = await self._launch_together(replicas, self._config.enough_replicas(replicas))
            self._replicas = replicas
        for number, launch in enumerate(launches):
            if not launch.done() or launch.exception() is not None:
                healing = self._in_background(self._heal(f"rollout-{number}", launch))
                self._healing.add(healing)
                healing.add_done_callback(self._healing.discard)
        await asyncio.sleep(0)  # let every task begin, so that cancelling it also cancels its launch
        self._in_background(watch_drains(self._workers_on, self._move, self._config.group_timeout_s))

    async def resize(self, replicas: int) -> None:
        """Start or end workers until there are `replicas`. The others keep running.

        When the fleet shrinks, the workers with the least outstanding work finish it and leave. If a new
        worker fails to start, its error is raised and the number of workers stays the same.
        """
        async with self._resizing:
            missing = replicas - self._replicas
            if missing > 0:
                await self._launch_together(missing, missing)
            else:
                pending = list(self._healing)[:-missing] if missing else []
                for healing in pending:
                    healing.cancel()
                await asyncio.gather(*pending, return_exceptions=True)
                staying = [m for m in self._members.values() if m.healthy]
                surplus = -missing - len(pending)
                leaving = sorted(staying, key=self._router.outstanding)[:surplus]
                self._replicas -= len(pending) + len(leaving)
                await asyncio.gather(*(self.remove(m.worker_id) for m in leaving))
            self._replicas = max(self._replicas, replicas)

    async def remove(self, worker_id: str, finish_s: float | None = None) -> None:
        """Send a worker no more requests, let it finish those it has, and end it.

        Requests unfinished after `finish_s` (default: their own deadline) are retried on other workers.
        """
        member = self._members.get(worker_id)
        if member is None:
            return  # the worker died and was replaced
        member.healthy, member.leaving = False, True
        self._router.leave(member)
        async with self._changed:
            try:
                await within(
                    self._changed.wait_for(lambda: not member.running),
                    self._config.group_timeout_s if finish_s is None else finish_s,
                    f"{worker_id}: finishing its work",
                )
            except DeadlineError as error:
                logger.warning("%s; ending it anyway", error)
        if worker_id in self._members:  # otherwise it died meanwhile
            await self._end(member)

    @asynccontextmanager
    async def _at_work(self, members: Sequence[Member]) -> AsyncIterator[None]:
        """Mark workers as busy inside the block: removing one of them waits until the block ends."""
        for member in members:
            member.running += 1
        try:
            yield
        finally:
            for member in members:
                member.running -= 1
            async with self._changed:
                self._changed.notify_all()

    def give_up(self, worker_id: str, reason: str, its_fault: bool) -> None:
        """Replace a worker, if it is still in the fleet. The restart counts towards
        `rollout.max_worker_restarts` only if `its_fault`."""
        member = self._members.get(worker_id)
        if member is not None:
            (self._give_up if its_fault else self._take_out)(member, Lost(reason))

    async def close(self) -> None:
        """End all workers, including those still starting: their processes and their placement groups."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await asyncio.gather(*(self._end(member) for member in list(self._members.values())))

    async def _launch_together(self, count: int, needed: int) -> list[asyncio.Task[Member]]:
        """Start `count` workers in parallel; returns once `needed` have joined. If too many fail, remove the
        others too."""
        launches = [asyncio.ensure_future(self._launch()) for _ in range(count)]
        try:
            await enough_of(launches, needed)
        except BaseException:
            for launch in launches:
                launch.cancel()
            ended = await asyncio.gather(*launches, return_exceptions=True)
            await asyncio.gather(*(self.remove(m.worker_id) for m in ended if isinstance(m, Member)))
            raise
        return launches

    async def _heal(self, worker_id: str, launch: asyncio.Task[Member]) -> None:
        """Wait for a worker that has not started with the others. If it fails, start it again."""
        try:
            await launch
        except Exception as error:
            if permanent := permanent_cause(error):
                self._exhaust(f"{worker_id} cannot start: {permanent}")
                return
            logger.warning("%s could not be started: %s", worker_id, explained(error))
            self._on_fault(worker_id, fault_report(error, "another is started in its place"))
            await self._pause(FIRST_PAUSE_S)
            await self._launch_in_place_of(worker_id)

    async def _launch(self) -> Member:
        """Place a worker, start it and let it join."""
        number = next(self._numbers)
        worker_id = f"rollout-{number}"
        placement = await place(self._config, self._placement_timeout_s, worker_id, number)
        member = Member(worker_id, self._make_actor(worker_id, number, placement), placement)
        self._members[worker_id] = member
        try:
            async with self._starting():
                member.info = await ask(member, remote(RolloutWorker.start), self._config.start_timeout_s)
            async with self._membership:
                if self._on_join is not None:
                    await self._on_join(worker_id)
                member.healthy = True
        except BaseException:
            await self._end(member)
            raise
        self._router.join(member)
        logger.info("%s started on %s", worker_id, member.info and member.info.node)
        return member

    def _make_actor(self, worker_id: str, number: int, placement: Placement) -> Any:
        # For requests without a seed, two workers must not sample the same completions.
        seed = (self._seed + number) % 2**31
        actor: Any = ray.remote(self._worker_class)
        options = placement.actor_options(self._worker_arguments[1], self._environment)
        return actor.options(**options).remote(
            worker_id,
            *self._worker_arguments,
            seed,
            self._trust_remote_code,
            self._frame_tokens,
            self._adapters,
        )

    def _give_up(self, member: Member, reason: Lost) -> None:
        """Replace a failed worker and count the restart towards `rollout.max_worker_restarts`."""
        if not self._take_out(member, reason):
            return
        self._restarts += 1
        if self._rate.exceeded(time.monotonic()):
            self._exhaust(
                f"more than {self._allowed} rollout workers had to be replaced; the last one: {reason}"
            )

    def _take_out(self, member: Member, reason: Lost) -> bool:
        """Remove a worker from the fleet at once. End it and start its replacement in the background.

        Returns False, without a replacement, for a worker that was leaving or is already removed.
        """
        if self._members.pop(member.worker_id, None) is None:
            return False  # an earlier failed call has removed it
        member.healthy = False
        self._router.leave(member)
        if member.leaving:
            self._in_background(member.placement.end(member.actor))
            return False
        logger.warning("replacing %s: %s", member.worker_id, reason)
        self._on_fault(member.worker_id, fault_report(reason, "it is replaced"))
        self._in_background(self._replace(member))
        return True

    def _workers_on(self, node_id: str) -> list[str]:
        return [
            m.worker_id for m in self._members.values() if m.healthy and m.info and m.info.node_id == node_id
        ]

    async def _move(self, worker_id: str, finish_s: float) -> None:
        """Remove a worker from its draining node, and start another on a different node."""
        self._on_fault(worker_id, f"its node is draining; it has {finish_s:.0f} s to finish its work")
        self._in_background(self.remove(worker_id, finish_s))
        self._in_background(self._launch_in_place_of(worker_id))
        await asyncio.sleep(0)  # let the removal begin, so that the next poll sees the worker leaving

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _replace(self, lost: Member) -> None:
        await lost.placement.end(lost.actor)
        await self._launch_in_place_of(lost.worker_id)

    async def _launch_in_place_of(self, worker_id: str) -> None:
        """Start a replacement, and retry if that fails. While enough other workers are healthy, retry without
        limit, with pauses in between. Otherwise each retry counts as a restart."""
        started_s, pause_s = time.monotonic(), FIRST_PAUSE_S
        while self._failure is None:
            try:
                successor = await self._launch()
                self._on_recovery(worker_id, successor.worker_id, time.monotonic() - started_s)
                break
            except Exception as error:
                if permanent := permanent_cause(error):
                    self._exhaust(f"no replacement of {worker_id} can start: {permanent}")
                    return
                self._restarts += 1
                logger.warning("a replacement of %s could not be started: %s", worker_id, explained(error))
                if self._enough:
                    await self._pause(pause_s)
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                elif self._rate.exceeded(time.monotonic()):
                    self._exhaust(
                        f"more than {self._allowed} restarts of rollout workers; a replacement of "
                        f"{worker_id} could not be started: {explained(error)}"
                    )

    async def _pause(self, seconds: float) -> None:
        """Wait for `seconds`, or until too few workers are healthy."""
        until_s = time.monotonic() + seconds
        while self._enough and (left_s := until_s - time.monotonic()) > 0:
            await asyncio.sleep(min(left_s, 1.0))

    @property
    def _enough(self) -> bool:
        """True if at least as many workers are healthy as a run needs to start."""
        return len(self.healthy) >= self._config.enough_replicas(self._replicas)

    @property
    def _allowed(self) -> str:
        config = self._config
        return f"{config.max_worker_restarts} (rollout.max_worker_restarts) in {config.restart_window_s:g} s"

    async def _end(self, member: Member) -> None:
        """End a worker's engine, then its process, then free its resources."""
        member.healthy = False
        self._router.leave(member)
        try:
            await ask(member, remote(RolloutWorker.close), CLOSE_TIMEOUT_S)
        except (Lost, ray.exceptions.RayError) as error:
            logger.warning("killing %s: %s", member.worker_id, error)
        self._members.pop(member.worker_id, None)
        await member.placement.end(member.actor)

    def _exhaust(self, reason: str) -> None:
        self._failure = FleetExhausted(reason)
        self._router.fail(self._failure)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
