"""Starts and ends all actors of a run."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from cluster.nccl_log import start_nccl_logs
from cluster.preflight import Job
from cluster.weight_sync import WeightSync, make_weight_sync
from data.decode import Decoder, Reading
from data.hub import model_folder
from learner.group import LearnerGroup
from monitoring.run_dir import RunDirectory
from rewards.pool import RewardPool
from rollout.drain_gate import DrainGate
from rollout.fleet import RolloutFleet

logger = logging.getLogger(__name__)

JOIN_POLL_S = 1.0


class RunActors:
    """Rollout fleet, reward pool, learner group, decoder and weight sync.

    Args:
        on_fault: called with a failed actor that is being replaced, and the reason.
        on_recovery: called with the failed actor, its successor, and the seconds between failure and
            recovery.
    """

    def __init__(
        self,
        job: Job,
        on_fault: Callable[[str, str], None],
        on_recovery: Callable[[str, str, float], None],
    ) -> None:
        config = job.config
        self._config = config
        self._model_path = model_folder(config.model.path, config.model.revision)
        # A starting engine measures its GPU's free memory, and counts memory that others allocate meanwhile
        # as its own. So on a shared GPU ranks neither start nor update while an engine starts.
        self._gpu_memory = DrainGate()
        self.decoder = Decoder(
            Reading(
                config.data.max_frame_px,
                config.data.decoder,
                square=config.data.square_pixels,
                fetching=config.data.fetching,
            ),
            timeout_s=config.data.decode_timeout_s,
            tasks=config.decode_tasks,
            cpus=config.data.decode_cpus,
        )
        self.rewards = RewardPool(config.rewards, on_fault, on_recovery)
        self._on_recovery = on_recovery
        self._total_updates = job.sizes.updates
        self._adapters = job.adapters
        self._nccl: dict[str, str] = {}
        if config.device == "cuda" and config.run_dir is not None:
            self._nccl = start_nccl_logs(RunDirectory(config.run_dir).nccl)
        self.learner = self._make_learner()
        self.fleet = RolloutFleet(
            config.rollout,
            model_path=self._model_path,
            frames_per_video=config.data.frames_per_video,
            seed=config.seed,
            trust_remote_code=config.model.trust_remote_code,
            frame_tokens=config.data.frame_tokens,
            placement_timeout_s=config.cluster.placement_timeout_s,
            adapters=job.adapters,
            environment=self._nccl,
            on_join=self._join,
            starting=self._gpu_memory.entered if config.shares_gpu else nullcontext,
            on_fault=on_fault,
            on_recovery=on_recovery,
        )
        self.sync: WeightSync = make_weight_sync(self.learner, self.fleet, config, job.adapters is not None)
        self.may_join = asyncio.Event()
        """Cleared while new workers must wait, because they might get weights that the others do not hold
        yet."""
        self.may_join.set()

    async def start(self, checkpoint: Path | None) -> dict[str, Any]:
        """Start all actors in parallel. Returns the state stored in `checkpoint`; empty without a checkpoint.

        On a shared GPU, engines start after the learner.
        """
        async with asyncio.TaskGroup() as tasks:
            learner = tasks.create_task(self.learner.start(checkpoint))
            if self._config.shares_gpu:
                await learner
            tasks.create_task(self.fleet.start(self._config.rollout.replicas))
            tasks.create_task(self.rewards.start())
        return learner.result().extra

    async def restart_learner(self, checkpoint: Path | None) -> dict[str, Any]:
        """Restart all learner ranks, and no other actor. Returns the state stored in `checkpoint`.

        Raises LearnerFailed if they do not start.
        """
        started_s = time.monotonic()
        await self.learner.close()
        self.learner = self._make_learner()
        self.sync = make_weight_sync(self.learner, self.fleet, self._config, self._adapters is not None)
        info = await self.learner.start(checkpoint)
        seconds = time.monotonic() - started_s
        loading = (
            f"new ranks ({seconds - info.start_s:.0f} s for processes, {info.start_s:.0f} s for loading)"
        )
        self._on_recovery("learner", loading, seconds)
        return info.extra

    def _make_learner(self) -> LearnerGroup:
        config = self._config
        return LearnerGroup(
            config.learner,
            model_path=self._model_path,
            total_updates=self._total_updates,
            temperature=config.rollout.temperature,
            trust_remote_code=config.model.trust_remote_code,
            frame_tokens=config.data.frame_tokens,
            placement_timeout_s=config.cluster.placement_timeout_s,
            shutdown_timeout_s=config.cluster.shutdown_timeout_s,
            send_adapters=self._adapters is not None,
            environment=self._nccl,
            alone=self._gpu_memory.drained if config.shares_gpu else nullcontext,
        )

    async def close(self) -> None:
        """End all actors, whatever their state. If ending one fails, the others are still ended."""
        closing = [self.fleet.close(), self.learner.close(), self.rewards.close()]
        results = await asyncio.gather(
            *(asyncio.wait_for(c, self._config.cluster.shutdown_timeout_s) for c in closing),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                logger.error("while ending the run's actors: %r", result)

    async def _join(self, worker_id: str) -> None:
        while not self.may_join.is_set() and self.fleet.healthy:  # else nobody would end what it waits for
            with suppress(TimeoutError):
                await asyncio.wait_for(self.may_join.wait(), JOIN_POLL_S)
        await self.sync.join(worker_id)
