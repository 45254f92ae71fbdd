"""An elastic set of rollout workers: placement, routing, health, replacement.

A worker is healthy once `on_join` has given it the current weights. Work goes to the healthy worker with the
least outstanding tokens. A worker that dies, or lets a deadline pass, is killed, its work is started again
elsewhere, and another is started in its place.

The lock `_membership` keeps joining and handing out weights apart: a newcomer either joins before a hand-out
and takes part in it, or joins after it and gets the new weights from `on_join`. It never becomes healthy with
weights that were replaced while it joined.
"""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import ray

from data.deadline import DeadlineError, together, within
from data.records import Group, SamplingRequest
from rollout.config import RolloutConfig
from rollout.errors import EngineDead, FleetExhausted, RolloutFailed
from rollout.placement import Placement, place
from rollout.worker import RolloutWorker, WorkerInfo, WorkerStats

__all__ = ["FleetExhausted", "RolloutFailed", "RolloutFleet"]

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 15.0


@dataclass(eq=False)
class _Member:
    """A worker as the fleet sees it. It takes no work until `healthy`."""

    worker_id: str
    actor: Any
    placement: Placement
    healthy: bool = False
    leaving: bool = False
    outstanding_tokens: int = 0
    info: WorkerInfo | None = None


class _Lost(Exception):
    """A worker died, or has to be given up as hung."""


class RolloutFleet:
    """See the module's docstring.

        await fleet.start(2)
        groups = await fleet.sample(requests, frames_ref, cost_tokens)
        await fleet.each_healthy("load_weights", version, buckets, timeout_s=300)
        await fleet.close()

    Args:
        on_join: called with the id of a worker that has started; gives it the current weights, through
            `call`. The worker is healthy when it returns.
        on_fault: told of a worker that has to be replaced, and why.
        worker_class: the actor's class.
    """

    def __init__(
        self,
        config: RolloutConfig,
        model_path: str,
        frames_per_video: int,
        seed: int,
        trust_remote_code: bool = False,
        placement_timeout_s: float = 300.0,
        on_join: Callable[[str], Awaitable[None]] | None = None,
        on_fault: Callable[[str, str], None] = lambda worker_id, reason: None,
        worker_class: type = RolloutWorker,
    ) -> None:
        self._config = config
        self._worker_arguments = (config, model_path, frames_per_video)
        self._seed = seed
        self._trust_remote_code = trust_remote_code
        self._placement_timeout_s = placement_timeout_s
        self._on_join = on_join
        self._on_fault = on_fault
        self._worker_class = worker_class
        self._members: dict[str, _Member] = {}
        self._numbers = itertools.count()
        self._membership = asyncio.Lock()
        self._changed = asyncio.Condition()
        self._background: set[asyncio.Task[None]] = set()
        self._restarts = 0
        self._failure: FleetExhausted | None = None

    @property
    def healthy(self) -> list[str]:
        """Ids of the workers that take work."""
        return [member.worker_id for member in self._members.values() if member.healthy]

    @property
    def infos(self) -> list[WorkerInfo]:
        """Who the healthy workers are."""
        return [m.info for m in self._members.values() if m.healthy and m.info is not None]

    @property
    def restarts(self) -> int:
        """Workers replaced so far."""
        return self._restarts

    async def start(self, replicas: int) -> None:
        """Start `replicas` workers side by side; the first that cannot be started ends the attempt."""
        await together(self._launch() for _ in range(replicas))

    async def add(self) -> str:
        """Start one more worker; returns its id once it is healthy."""
        return (await self._launch()).worker_id

    async def remove(self, worker_id: str) -> None:
        """Give a worker no more work, let it finish what it has, and end it."""
        member = self._members[worker_id]
        async with self._changed:
            member.healthy, member.leaving = False, True
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: member.outstanding_tokens == 0)
            try:
                await within(done, self._config.group_timeout_s, f"{worker_id}: finishing its work")
            except DeadlineError as error:
                logger.warning("%s; it is ended all the same", error)
        if worker_id in self._members:  # else it died on the way
            await self._end(member)

    async def sample(
        self, requests: Sequence[SamplingRequest], frames: ray.ObjectRef, cost_tokens: int
    ) -> list[Group]:
        """All groups of one video, sampled by one worker at one policy version.

        Args:
            requests: one for each group.
            frames: reference to the clean frames, uint8 [T, H, W, 3].
            cost_tokens: about how many tokens this will be, for routing.

        Raises:
            RolloutFailed: if the request cannot be served, or workers died of it again and again.
            FleetExhausted: if there is no worker left to ask.
        """
        for attempt in itertools.count(1):
            member = await self._least_loaded()
            member.outstanding_tokens += cost_tokens
            try:
                return await self._ask(
                    member, "sample", requests, frames, timeout_s=self._config.group_timeout_s
                )
            except _Lost as error:
                self._give_up(member, error)
                if attempt > self._config.max_retries:
                    ref = requests[0].ref
                    raise RolloutFailed(
                        f"{ref.path}: given up after {attempt} attempts (rollout.max_retries); "
                        f"the last one: {error}"
                    ) from error
            except (ray.exceptions.RayError, ValueError) as error:
                raise RolloutFailed(f"{requests[0].ref.path}: {_cause(error)}") from error
            finally:
                member.outstanding_tokens -= cost_tokens
                async with self._changed:
                    self._changed.notify_all()
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def settled(self) -> AsyncIterator[list[str]]:
        """The healthy workers' ids; none joins before the block ends."""
        async with self._membership:
            self._raise_failure()
            yield self.healthy

    async def each_healthy(self, method: str, *args: Any, timeout_s: float) -> dict[str, Any]:
        """Call `method` of every healthy worker at once; returns the answers by worker id.

        A worker that dies or lets the deadline pass is replaced, and has no answer. An error of any other
        kind is raised.
        """
        async with self._membership:
            self._raise_failure()
            members = [member for member in self._members.values() if member.healthy]
            calls = [self._ask(member, method, *args, timeout_s=timeout_s) for member in members]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            for member, answer in zip(members, answers, strict=True):
                if isinstance(answer, _Lost):
                    self._give_up(member, answer)
        answered = {}
        for member, answer in zip(members, answers, strict=True):
            if isinstance(answer, _Lost):
                continue
            if isinstance(answer, BaseException):
                raise answer
            answered[member.worker_id] = answer
        return answered

    async def call(self, worker_id: str, method: str, *args: Any, timeout_s: float) -> Any:
        """Call `method` of one worker, healthy or about to join."""
        member = self._members[worker_id]
        try:
            return await self._ask(member, method, *args, timeout_s=timeout_s)
        except _Lost as error:
            if member.healthy:
                self._give_up(member, error)
            raise RolloutFailed(str(error)) from error

    async def stats(self, timeout_s: float = 30.0) -> list[WorkerStats]:
        """Totals of every healthy worker since its start."""
        return list((await self.each_healthy("stats", timeout_s=timeout_s)).values())

    async def close(self) -> None:
        """End every worker, healthy or starting; none of their processes or placements is left."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await asyncio.gather(*(self._end(member) for member in list(self._members.values())))

    async def _launch(self) -> _Member:
        """Place and start a worker, and let it join."""
        number = next(self._numbers)
        worker_id = f"rollout-{number}"
        placement = await place(self._config, self._placement_timeout_s, worker_id, number)
        member = _Member(worker_id, self._make_actor(worker_id, number, placement), placement)
        self._members[worker_id] = member
        try:
            member.info = await self._ask(member, "start", timeout_s=self._config.start_timeout_s)
            async with self._membership:
                if self._on_join is not None:
                    await self._on_join(worker_id)
                member.healthy = True
        except BaseException:
            await self._end(member)
            raise
        async with self._changed:
            self._changed.notify_all()
        logger.info("%s started on %s", worker_id, member.info and member.info.node)
        return member

    def _make_actor(self, worker_id: str, number: int, placement: Placement) -> Any:
        # Requests without a seed must not be the same on two workers.
        seed = (self._seed + number) % 2**31
        remote: Any = ray.remote(self._worker_class)
        return remote.options(**placement.actor_options(self._worker_arguments[1])).remote(
            worker_id, *self._worker_arguments, seed, self._trust_remote_code
        )

    async def _least_loaded(self) -> _Member:
        """The healthy worker with the least outstanding tokens, as soon as there is a healthy one."""

        def ready() -> bool:
            return self._failure is not None or bool(self.healthy)

        deadline_s = self._placement_timeout_s + self._config.start_timeout_s + self._config.sync_timeout_s
        async with self._changed:
            try:
                await within(self._changed.wait_for(ready), deadline_s, "a healthy rollout worker")
            except DeadlineError as error:
                raise FleetExhausted(str(error)) from error
        self._raise_failure()
        candidates = (member for member in self._members.values() if member.healthy)
        return min(candidates, key=lambda member: member.outstanding_tokens)

    async def _ask(self, member: _Member, method: str, *args: Any, timeout_s: float) -> Any:
        """Call an actor's method. Raises _Lost if the worker is of no more use, else the method's error."""
        what = f"{member.worker_id}.{method}"
        try:
            return await within(getattr(member.actor, method).remote(*args), timeout_s, what)
        except DeadlineError as error:
            raise _Lost(str(error)) from error
        except ray.exceptions.RayActorError as error:
            raise _Lost(f"{what}: the worker died: {_first_line(error)}") from error
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, EngineDead):
                raise _Lost(f"{what}: {error.cause}") from error
            raise

    def _give_up(self, member: _Member, reason: _Lost) -> None:
        """Take a worker out of the set at once; end it, and start another, in the background."""
        if self._members.pop(member.worker_id, None) is None:
            return  # another of its calls has already found out
        member.healthy = False
        if member.leaving:
            self._in_background(member.placement.end(member.actor))
            return
        self._restarts += 1
        logger.warning("replacing %s (%d so far): %s", member.worker_id, self._restarts, reason)
        self._on_fault(member.worker_id, f"{reason}; it is replaced")
        if self._restarts > self._config.max_worker_restarts:
            self._failure = FleetExhausted(
                f"{self._restarts} rollout workers had to be replaced, more than rollout.max_worker_restarts "
                f"({self._config.max_worker_restarts}); the last one: {reason}"
            )
        self._in_background(self._replace(member))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _replace(self, lost: _Member) -> None:
        await lost.placement.end(lost.actor)
        while self._failure is None:
            try:
                await self._launch()
                break
            except Exception as error:
                self._restarts += 1
                logger.warning("a replacement of %s could not be started: %s", lost.worker_id, _cause(error))
                if self._restarts > self._config.max_worker_restarts:
                    self._failure = FleetExhausted(
                        f"replacements of {lost.worker_id} could not be started: {_cause(error)}"
                    )
        async with self._changed:
            self._changed.notify_all()

    async def _end(self, member: _Member) -> None:
        """End a worker's engine, then its process, and free its place."""
        member.healthy = False
        try:
            await self._ask(member, "close", timeout_s=CLOSE_TIMEOUT_S)
        except (_Lost, ray.exceptions.RayError) as error:
            logger.warning("%s is ended by force: %s", member.worker_id, error)
        self._members.pop(member.worker_id, None)
        await member.placement.end(member.actor)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def _cause(error: BaseException) -> str:
    cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
    return f"{type(cause).__name__}: {cause}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
