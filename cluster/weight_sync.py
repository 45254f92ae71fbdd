"""New weights from the learner to every engine, and to engines that join later."""

import logging
import time
from typing import Protocol

import ray

from cluster.config import RunConfig
from learner.group import LearnerGroup
from rollout.fleet import RolloutFleet

logger = logging.getLogger(__name__)


class WeightSync(Protocol):
    """Hands the learner's weights to engines. Every call has a deadline, and every engine confirms the
    version that it holds afterwards."""

    async def push(self, version: int) -> dict[str, float]:
        """Give every healthy worker the current weights; returns the seconds of each phase."""

    async def join(self, worker_id: str) -> None:
        """Give one new worker the weights that the others hold."""


class ObjectStoreSync:
    """Through Ray's object store: rank 0 puts each bucket once, every engine reads it without a copy.

    The buckets of the current version stay in the store, so that a newcomer needs nothing of the learner.
    """

    def __init__(self, learner: LearnerGroup, fleet: RolloutFleet, config: RunConfig) -> None:
        self._learner = learner
        self._fleet = fleet
        self._timeout_s = config.rollout.sync_timeout_s
        self._version = 0
        self._buckets: list[ray.ObjectRef] | None = None

    async def push(self, version: int) -> dict[str, float]:
        started = time.perf_counter()
        self._buckets, self._version = await self._learner.weight_buckets(), version
        gathered = time.perf_counter()
        await self._fleet.each_healthy("load_weights", version, self._buckets, timeout_s=self._timeout_s)
        loaded = time.perf_counter()
        return {
            "sync/gather_s": gathered - started,
            "sync/load_s": loaded - gathered,
            "sync/s": loaded - started,
        }

    async def join(self, worker_id: str) -> None:
        if self._buckets is None:
            return  # the base model, which the worker has read itself
        await self._fleet.call(
            worker_id, "load_weights", self._version, self._buckets, timeout_s=self._timeout_s
        )
        logger.info("worker %s holds version %d", worker_id, self._version)


def make_weight_sync(learner: LearnerGroup, fleet: RolloutFleet, config: RunConfig) -> WeightSync:
    """The transport that the hardware asks for."""
    return ObjectStoreSync(learner, fleet, config)
