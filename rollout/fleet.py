"""The interface to all rollout workers.

A request goes to the healthy worker with the fewest outstanding tokens, as soon as a worker has room
(rollout/router.py). If its worker is lost, the request is retried on another. rollout/membership.py starts,
replaces and ends workers.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import ray

from data.errors import permanent_cause
from data.records import Group, SamplingRequest, Weights
from rollout.errors import FleetExhausted, RolloutFailed
from rollout.member import Lost, Member, ask
from rollout.membership import Roster
from rollout.worker import HeldVersion, RolloutWorker, WorkerStats
from runtime.actors import RemoteCall, explained, remote, value_of

T = TypeVar("T")

__all__ = ["FleetExhausted", "RolloutFailed", "RolloutFleet"]


class RolloutFleet(Roster):
    """Samples groups on the workers, and loads weights into them.

    await fleet.start(2)
    groups = await fleet.sample(requests, frames_ref, cost_tokens)
    await fleet.load_weights_everywhere(weights)
    await fleet.close()
    """

    @property
    def waiting(self) -> int:
        """Number of calls of `sample` and `sample_all` that wait for a worker with room."""
        return self._router.waiting

    async def sample(
        self, requests: Sequence[SamplingRequest], frames: ray.ObjectRef, cost_tokens: int
    ) -> list[Group]:
        """Sample all groups of one video on one worker, at one policy version.

        Args:
            requests: one per group.
            frames: reference to the clean frames, uint8 [T, H, W, 3].
            cost_tokens: estimated number of tokens, used for routing.

        Raises:
            RolloutFailed: if the request cannot be served, or its worker died in each of the
                `rollout.max_retries` retries too.
            FleetExhausted: if no worker is left.
        """
        call = remote(RolloutWorker.sample, requests, value_of(frames))
        return await self._ask_any(call, cost_tokens, requests[0].ref.path)

    async def sample_all(
        self, batch: Sequence[Sequence[SamplingRequest]], frames: ray.ObjectRef, cost_tokens: int
    ) -> list[list[Group] | ValueError]:
        """Sample the groups of several videos on one worker in one call.

        Args:
            batch: the requests of each video; an empty list skips a video.
            frames: reference to a list with the clean frames of each video (None for a skipped one).
            cost_tokens: estimated number of tokens of the whole batch, used for routing.
        Returns:
            For each video its groups, or the error that says why its requests cannot be served.
        Raises:
            RolloutFailed, FleetExhausted: as `sample`, but for the whole batch.
        """
        first = next(requests[0].ref.path for requests in batch if requests)
        call = remote(RolloutWorker.sample_all, batch, value_of(frames))
        return await self._ask_any(call, cost_tokens, first)

    async def _ask_any(self, call: RemoteCall[RolloutWorker, T], cost_tokens: int, path: str) -> T:
        for attempt in itertools.count(1):
            member = await self._acquire(cost_tokens)
            try:
                async with self._at_work([member]):
                    return await ask(member, call, self._config.group_timeout_s)
            except Lost as error:
                self._give_up(member, error)
                if attempt > self._config.max_retries:
                    raise RolloutFailed(
                        f"{path}: given up after {attempt} attempts (rollout.max_retries); "
                        f"the last one: {error}"
                    ) from error
            except (ray.exceptions.RayError, ValueError) as error:
                if permanent := permanent_cause(error):
                    self._exhaust(f"{path}: {permanent}")
                    self._raise_failure()
                raise RolloutFailed(f"{path}: {explained(error)}") from error
            finally:
                self._router.release(member, cost_tokens)
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def settled(self) -> AsyncIterator[list[str]]:
        """Yield the healthy workers' ids. No worker joins or ends inside the block."""
        async with self._membership:
            self._raise_failure()
            members = [member for member in self._members.values() if member.healthy]
            async with self._at_work(members):
                yield [member.worker_id for member in members]

    async def load_weights_everywhere(self, weights: Weights) -> dict[str, HeldVersion]:
        """Make every healthy worker load `weights`; returns the version that each then holds.

        A worker that dies or misses the deadline is replaced and left out of the result, as in every call to
        all workers. Any other error is raised.
        """
        call = remote(RolloutWorker.load_weights, weights.version, weights.buckets)
        return await self.ask_healthy(call, self._config.sync_timeout_s)

    async def load_weights(self, worker_id: str, weights: Weights) -> HeldVersion:
        """Make one worker load `weights`; returns the version that it then holds.

        As in every call to one worker, it may be healthy, joining or leaving. Raises RolloutFailed if it is
        gone, dies or misses the deadline; the caller then replaces it with `give_up`.
        """
        return await self._ask(
            worker_id, remote(RolloutWorker.load_weights, weights.version, weights.buckets)
        )

    async def open_transfer(self, worker_id: str, init_info: dict[str, Any]) -> None:
        """Make one worker join the NCCL group that the learner opens at the same time."""
        await self._ask(worker_id, remote(RolloutWorker.init_transfer, init_info))

    async def receive_weights(self, worker_id: str, version: int, update_info: dict[str, Any]) -> HeldVersion:
        """Make one worker receive the learner's broadcast; returns the version that it then holds."""
        return await self._ask(worker_id, remote(RolloutWorker.receive_weights, version, update_info))

    async def ping_everyone(self) -> dict[str, int]:
        """Return the policy version of each healthy worker."""
        return await self.ask_healthy(remote(RolloutWorker.ping), self._config.sync_timeout_s)

    async def stats(self, timeout_s: float = 30.0) -> list[WorkerStats]:
        """Return each healthy worker's totals since its start, without waiting for other calls to it.

        A worker that died or does not answer in time is left out. It is not replaced here, because its
        sampling calls have deadlines of their own.
        """
        members = [member for member in self._members.values() if member.healthy]
        answers = await self._gather(members, remote(RolloutWorker.stats), timeout_s)
        return [answer for answer in answers if not isinstance(answer, Lost)]

    async def ask_healthy(self, call: RemoteCall[RolloutWorker, T], timeout_s: float) -> dict[str, T]:
        """Make `call` on all healthy workers in parallel; returns the results by worker id."""
        async with self._membership:
            self._raise_failure()
            members = [member for member in self._members.values() if member.healthy]
            async with self._at_work(members):
                answers = await self._gather(members, call, timeout_s)
            answered = {}
            for member, answer in zip(members, answers, strict=True):
                if isinstance(answer, Lost):
                    self._give_up(member, answer)
                else:
                    answered[member.worker_id] = answer
            return answered

    async def _gather(
        self, members: Sequence[Member], call: RemoteCall[RolloutWorker, T], timeout_s: float
    ) -> list[T | Lost]:
        """Return each member's result, or Lost with the reason. Other errors are raised after all have
        ended."""
        calls = (ask(member, call, timeout_s) for member in members)
        answers: list[T | Lost] = []
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(answer, BaseException) and not isinstance(answer, Lost):
                raise answer
            answers.append(answer)
        return answers

    async def _ask(self, worker_id: str, call: RemoteCall[RolloutWorker, T]) -> T:
        member = self._members.get(worker_id)
        if member is None:
            raise RolloutFailed(f"{worker_id}.{call.method}: the worker is gone")
        try:
            return await ask(member, call, self._config.sync_timeout_s)
        except Lost as error:
            raise RolloutFailed(str(error)) from error

    async def _acquire(self, cost_tokens: int) -> Member:
        """Wait for a worker with room, and return it.

        While there are workers, the deadlines of their calls bound this wait. Without any, the wait ends
        after the time that a new worker may take to start.
        """
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
