"""The rollout workers as one.

Work goes to the healthy worker with the least outstanding tokens, as soon as one has room
(rollout/router.py), and what a lost worker had is started again elsewhere. Who the workers are is
rollout/membership.py's affair.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import ray

from data.errors import permanent_cause
from data.records import Group, SamplingRequest
from rollout.errors import FleetExhausted, RolloutFailed
from rollout.membership import Lost, Member, Roster, ask, cause_of
from rollout.worker import WorkerStats

__all__ = ["FleetExhausted", "RolloutFailed", "RolloutFleet"]


class RolloutFleet(Roster):
    """A roster whose workers are asked for groups, and handed weights.

    await fleet.start(2)
    groups = await fleet.sample(requests, frames_ref, cost_tokens)
    await fleet.each_healthy("load_weights", version, buckets, timeout_s=300)
    await fleet.close()
    """

    @property
    def waiting(self) -> int:
        """Calls of `sample` and `sample_all` that no worker has room for."""
        return self._router.waiting

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
        return await self._ask_any("sample", requests, frames, cost_tokens, requests[0].ref.path)

    async def sample_all(
        self, batch: Sequence[Sequence[SamplingRequest]], frames: ray.ObjectRef, cost_tokens: int
    ) -> list[list[Group] | ValueError]:
        """The groups of several videos, sampled by one worker in one call.

        Args:
            batch: the requests of each video; none for one that is left out.
            frames: reference to a list of the clean frames of each, or None.
            cost_tokens: about how many tokens this will be in all.
        Returns:
            The groups of each video, or why its requests cannot be served.
        Raises:
            RolloutFailed, FleetExhausted: as `sample`, for all of them.
        """
        first = next(requests[0].ref.path for requests in batch if requests)
        return await self._ask_any("sample_all", batch, frames, cost_tokens, first)

    async def _ask_any(
        self, method: str, requests: Any, frames: ray.ObjectRef, cost_tokens: int, path: str
    ) -> Any:
        for attempt in itertools.count(1):
            member = await self._acquire(cost_tokens)
            try:
                async with self._at_work([member]):
                    return await ask(member, method, requests, frames, timeout_s=self._config.group_timeout_s)
            except Lost as error:
                self._give_up(member, str(error))
                if attempt > self._config.max_retries:
                    raise RolloutFailed(
                        f"{path}: given up after {attempt} attempts (rollout.max_retries); "
                        f"the last one: {error}"
                    ) from error
            except (ray.exceptions.RayError, ValueError) as error:
                if permanent := permanent_cause(error):
                    self._exhaust(f"{path}: {permanent}")
                    self._raise_failure()
                raise RolloutFailed(f"{path}: {cause_of(error)}") from error
            finally:
                self._router.release(member, cost_tokens)
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def settled(self) -> AsyncIterator[list[str]]:
        """The healthy workers' ids; none joins before the block ends, and whoever is removed stays for it."""
        async with self._membership:
            self._raise_failure()
            members = [member for member in self._members.values() if member.healthy]
            async with self._at_work(members):
                yield [member.worker_id for member in members]

    async def each_healthy(self, method: str, *args: Any, timeout_s: float) -> dict[str, Any]:
        """Call `method` of every healthy worker at once; returns the answers by worker id.

        A worker that dies or lets the deadline pass is replaced, and has no answer. An error of any other
        kind is raised.
        """
        async with self._membership:
            self._raise_failure()
            members = [member for member in self._members.values() if member.healthy]
            calls = [ask(member, method, *args, timeout_s=timeout_s) for member in members]
            async with self._at_work(members):
                answers = await asyncio.gather(*calls, return_exceptions=True)
            for member, answer in zip(members, answers, strict=True):
                if isinstance(answer, Lost):
                    self._give_up(member, str(answer))
        answered = {}
        for member, answer in zip(members, answers, strict=True):
            if isinstance(answer, Lost):
                continue
            if isinstance(answer, BaseException):
                raise answer
            answered[member.worker_id] = answer
        return answered

    async def call(self, worker_id: str, method: str, *args: Any, timeout_s: float) -> Any:
        """Call `method` of one worker, healthy, about to join or about to leave.

        Raises RolloutFailed if it is gone, dies or lets the deadline pass: give it up then.
        """
        member = self._members.get(worker_id)
        if member is None:
            raise RolloutFailed(f"{worker_id}.{method}: the worker is gone")
        try:
            return await ask(member, method, *args, timeout_s=timeout_s)
        except Lost as error:
            raise RolloutFailed(str(error)) from error

    async def stats(self, timeout_s: float = 30.0) -> list[WorkerStats]:
        """Totals of every healthy worker since its start; waits for nothing else that goes on.

        A worker that died or does not answer in time is left out, and stays: its work has its own deadline.
        """
        members = [member for member in self._members.values() if member.healthy]
        calls = [ask(member, "stats", timeout_s=timeout_s) for member in members]
        found = []
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(answer, Lost):
                continue
            if isinstance(answer, BaseException):
                raise answer
            found.append(answer)
        return found

    async def _acquire(self, cost_tokens: int) -> Member:
        """The worker to ask, once one has room. As long as there are workers, each of their calls has a
        deadline, so that room will come; without any, this waits for the time that a new one may take."""
        self._raise_failure()
        deadline_s = self._placement_timeout_s + self._config.start_timeout_s + self._config.sync_timeout_s
        acquiring = asyncio.ensure_future(self._router.acquire(cost_tokens))
        try:
            while not (await asyncio.wait([acquiring], timeout=deadline_s))[0]:
                if not len(self._router):
                    raise FleetExhausted(f"there was no healthy rollout worker for {deadline_s:g} s")
        except BaseException:
            if not acquiring.cancel() and acquiring.exception() is None:
                self._router.release(acquiring.result(), cost_tokens)
            raise
        return acquiring.result()
