"""All rollout workers behind one interface.

A request goes to the healthy worker with the least outstanding tokens, as soon as one has room
(rollout/router.py). Requests of a lost worker are retried on another. rollout/membership.py starts, replaces
and ends workers.
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
    """Samples groups on the workers, and gives them weights.

    await fleet.start(2)
    groups = await fleet.sample(requests, frames_ref, cost_tokens)
    await fleet.load_weights_everywhere(weights)
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
            RolloutFailed: if the request cannot be served, or `rollout.max_retries` workers died of it.
            FleetExhausted: if no worker is left.
        """
        call = remote(RolloutWorker.sample, requests, value_of(frames))
        return await self._ask_any(call, cost_tokens, requests[0].ref.path)

    async def sample_all(
        self, batch: Sequence[Sequence[SamplingRequest]], frames: ray.ObjectRef, cost_tokens: int
    ) -> list[list[Group] | ValueError]:
        """The groups of several videos, sampled by one worker in one call.

        Args:
            batch: the requests of each video; an empty list skips a video.
            frames: reference to a list of the clean frames of each, or None.
            cost_tokens: about how many tokens this will be in all.
        Returns:
            The groups of each video, or why its requests cannot be served.
        Raises:
            RolloutFailed, FleetExhausted: as `sample`, for all of them.
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
        """The healthy workers' ids. None joins or ends before the block does."""
        async with self._membership:
            self._raise_failure()
            members = [member for member in self._members.values() if member.healthy]
            async with self._at_work(members):
                yield [member.worker_id for member in members]

    async def load_weights_everywhere(self, weights: Weights) -> dict[str, HeldVersion]:
        """Have every healthy worker load `weights`; returns the version that each holds then.

        As of every call of all workers: one that dies or misses the deadline is replaced and left out of the
        result. Any other error is raised.
        """
        call = remote(RolloutWorker.load_weights, weights.version, weights.buckets)
        return await self.ask_healthy(call, self._config.sync_timeout_s)

    async def load_weights(self, worker_id: str, weights: Weights) -> HeldVersion:
        """Have one worker load `weights`; returns the version that it holds then.

        As of every call of one worker: it may be healthy, joining or leaving. Raises RolloutFailed if it is
        gone, dies or misses the deadline: give it up then.
        """
        return await self._ask(
            worker_id, remote(RolloutWorker.load_weights, weights.version, weights.buckets)
        )

    async def open_transfer(self, worker_id: str, init_info: dict[str, Any]) -> None:
        """Have one worker join the NCCL group that the learner opens at the same time."""
        await self._ask(worker_id, remote(RolloutWorker.init_transfer, init_info))

    async def receive_weights(self, worker_id: str, version: int, update_info: dict[str, Any]) -> HeldVersion:
        """Have one worker take part in the learner's broadcast; returns the version that it holds then."""
        return await self._ask(worker_id, remote(RolloutWorker.receive_weights, version, update_info))

    async def ping_everyone(self) -> dict[str, int]:
        """The policy version that every healthy worker holds."""
        return await self.ask_healthy(remote(RolloutWorker.ping), self._config.sync_timeout_s)

    async def stats(self, timeout_s: float = 30.0) -> list[WorkerStats]:
        """Totals of every healthy worker since its start; waits for no other call.

        A worker that died or does not answer in time is left out and not replaced: its work has its own
        deadline.
        """
        members = [member for member in self._members.values() if member.healthy]
        answers = await self._gather(members, remote(RolloutWorker.stats), timeout_s)
        return [answer for answer in answers if not isinstance(answer, Lost)]

    async def ask_healthy(self, call: RemoteCall[RolloutWorker, T], timeout_s: float) -> dict[str, T]:
        """Make `call` on every healthy worker at once; returns the answers by worker id."""
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
        """The answer of each member, or why it is lost. Any other error is raised once all have answered."""
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
        """The worker to ask, once one has room. While there are workers, their calls end by their deadlines
        and free room; without any, this waits as long as a new one may take to start."""
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
