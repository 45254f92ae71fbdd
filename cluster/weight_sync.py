"""Sends new weights from the learner to every engine, and to engines that join later."""

import asyncio
import time
from collections.abc import Coroutine, Mapping
from dataclasses import asdict
from typing import Any, Protocol, TypeVar

from cluster.config import RunConfig
from data.records import Weights
from learner.group import LearnerFailed, LearnerGroup
from learner.weight_transfer import BUFFERS
from rollout.errors import RolloutFailed
from rollout.fleet import RolloutFleet
from rollout.worker import HeldVersion

S = TypeVar("S")
T = TypeVar("T")

GRACE_S = 30.0
"""Seconds for the other members of a collective to return after one is lost. Few of them can."""


class WeightSync(Protocol):
    """Sends the learner's weights to engines. Every call has a deadline, and every engine confirms the
    version that it holds afterwards."""

    async def push(self) -> dict[str, float]:
        """Send the learner's weights and version to every healthy worker; returns the seconds of each phase.

        Engines sample while the weights are gathered, and pause while they load them. A worker that is lost
        meanwhile is replaced. Raises LearnerFailed if the learner cannot send.
        """

    async def join(self, worker_id: str) -> None:
        """Send the weights that the other workers hold to one new worker."""


class ObjectStoreSync:
    """Sends weights through Ray's object store: rank 0 puts each bucket once; engines read it without a copy.

    The buckets of the current version stay in the store, so a new worker does not involve the learner. In a
    run that sends adapters the buckets hold the adapter.
    """

    def __init__(self, learner: LearnerGroup, fleet: RolloutFleet, config: RunConfig) -> None:
        self._learner = learner
        self._fleet = fleet
        self._weights: Weights | None = None

    async def push(self) -> dict[str, float]:
        started = time.perf_counter()
        self._weights = await self._learner.weight_buckets()
        gathered = time.perf_counter()
        held = await self._fleet.load_weights_everywhere(self._weights)
        _confirm(self._weights.version, held)
        loaded = time.perf_counter()
        return {
            "sync/gather_s": gathered - started,
            "sync/load_s": loaded - gathered,
            "sync/pause_s": _longest_pause_s(held),
            "sync/s": loaded - started,
        }

    async def join(self, worker_id: str) -> None:
        if self._weights is not None:  # otherwise the base model, which the worker has loaded itself
            await self._fleet.load_weights(worker_id, self._weights)


class NcclSync:
    """Sends weights over NCCL, directly from learner rank 0 to every engine. Rank 0 gathers the whole model
    into its host memory before any engine pauses.

    If the set of workers has changed, the NCCL group is reopened between two updates. A new worker gets its
    first weights from the object store instead, so the others need not pause for it.
    """

    def __init__(self, learner: LearnerGroup, fleet: RolloutFleet, config: RunConfig) -> None:
        self._learner = learner
        self._fleet = fleet
        self._timeout_s = config.rollout.sync_timeout_s
        self._engine_ranks = config.rollout.tensor_parallel_size
        self._buffer_bytes = config.learner.bucket_mb * 2**20
        self._pushed = False
        self._members: list[str] = []
        self._layout: dict[str, Any] = {}

    async def push(self) -> dict[str, float]:
        started = time.perf_counter()
        version = await self._learner.gather_weights()
        gathered = time.perf_counter()
        # Detect workers that died while idle. In a collective the others would wait for them forever.
        await self._fleet.ping_everyone()
        async with self._fleet.settled() as workers:
            while workers != self._members:
                workers = await self._open_group(workers)
            opened = time.perf_counter()
            held: dict[str, HeldVersion] = {}
            broadcast_s = 0.0
            if workers:  # otherwise new workers get the weights in `join`
                broadcast_s, held = await self._in_step(
                    self._learner.send_weights(self._timeout_s),
                    {w: self._fleet.receive_weights(w, version, self._layout) for w in workers},
                )
            self._pushed = True
        _confirm(version, held)
        sent = time.perf_counter()
        return {
            "sync/gather_s": gathered - started,
            "sync/open_s": opened - gathered,
            "sync/broadcast_s": broadcast_s,
            "sync/load_s": sent - opened,
            "sync/pause_s": _longest_pause_s(held),
            "sync/s": sent - started,
        }

    async def join(self, worker_id: str) -> None:
        if self._pushed:  # otherwise the worker has loaded the base model itself, or a push follows
            await self._fleet.load_weights(worker_id, await self._learner.weight_buckets())

    async def _open_group(self, workers: list[str]) -> list[str]:
        """Open an NCCL group, and return the workers that remain. They are in the group if none was lost."""
        self._members = []  # the group does not exist until all have joined
        if not workers:
            return []
        if not self._layout:
            self._layout = asdict(await self._learner.weight_layout())
        host, port = await self._learner.transfer_address()
        world_size = 1 + self._engine_ranks * len(workers)
        shared = {
            "master_address": host,
            "master_port": port,
            "world_size": world_size,
            "packed": True,
            "packed_buffer_size_bytes": self._buffer_bytes,
            "packed_num_buffers": BUFFERS,
        }
        _, joined = await self._in_step(
            self._learner.join_transfer(host, port, world_size, self._timeout_s),
            {
                w: self._fleet.open_transfer(w, shared | {"rank_offset": 1 + i * self._engine_ranks})
                for i, w in enumerate(workers)
            },
        )
        if len(joined) == len(workers):
            self._members = workers
        return list(joined)

    async def _in_step(
        self, sender: Coroutine[Any, Any, S], calls: Mapping[str, Coroutine[Any, Any, T]]
    ) -> tuple[S, dict[str, T]]:
        """Make the calls of one collective. Returns the sender's result and the results of the workers that
        completed it.

        If a member is lost, the others may hang in the collective and cannot be cancelled. Those that do not
        return within GRACE_S are replaced, and the group is abandoned.

        Raises:
            LearnerFailed: if the sender fails or does not return; its ranks have then been ended.
        """
        sending = asyncio.ensure_future(sender)
        receiving = {worker: asyncio.ensure_future(call) for worker, call in calls.items()}
        tasks = [sending, *receiving.values()]
        try:
            first, inside = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            if inside:
                await asyncio.wait(inside, timeout=GRACE_S)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        lost = {worker: error for worker, task in receiving.items() if (error := _error_of(task))}
        for worker, error in lost.items():
            if isinstance(error, RolloutFailed):
                self._fleet.give_up(worker, str(error), its_fault=receiving[worker] in first)
            elif isinstance(error, asyncio.CancelledError):
                reason = f"{worker}: stuck in a weight transfer that another member has left"
                self._fleet.give_up(worker, reason, its_fault=False)
            else:
                raise error
        if lost:
            self._members = []
        if sending.cancelled():
            self._learner.abandon()
            causes = "; ".join(str(e) for worker, e in lost.items() if receiving[worker] in first)
            raise LearnerFailed(f"learner: still in a weight transfer {GRACE_S:g} s after {causes}")
        answers = {worker: task.result() for worker, task in receiving.items() if worker not in lost}
        return sending.result(), answers


def make_weight_sync(
    learner: LearnerGroup, fleet: RolloutFleet, config: RunConfig, adapters: bool = False
) -> WeightSync:
    """Select the transport: NCCL on GPUs, Ray's object store in all other cases.

    The object store is used on CPUs, and if learner and engine share a GPU, because NCCL does not allow two
    ranks on one GPU. Adapters are small and always use the object store, so engines need not stop sampling to
    join a broadcast.
    """
    nccl = config.device == "cuda" and not config.shares_gpu and not adapters
    return (NcclSync if nccl else ObjectStoreSync)(learner, fleet, config)


def _confirm(version: int, held: Mapping[str, HeldVersion]) -> None:
    odd = {worker: h.version for worker, h in held.items() if h.version != version}
    if odd:
        raise RuntimeError(f"engines hold other versions than {version} after it was sent: {odd}")


def _longest_pause_s(held: Mapping[str, HeldVersion]) -> float:
    return max((worker.pause_s for worker in held.values()), default=0.0)


def _error_of(task: asyncio.Task[Any]) -> BaseException | None:
    """The exception of a finished task; CancelledError if it was cancelled."""
    return asyncio.CancelledError() if task.cancelled() else task.exception()
