"""One rollout worker: a Ray actor around an engine. Importable without vllm."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import ray

from data.frame_tokens import FrameTokens
from data.hub import downloaded
from data.perturb import perturb
from data.records import Group, SamplingRequest
from rollout.adapters import AdapterServing
from rollout.config import RolloutConfig
from rollout.errors import EngineDead
from rollout.toolchain import check_compiler
from runtime.calls import one_ahead, together, within

if TYPE_CHECKING:
    from data.tensor_bytes import Bucket
    from rollout.engine import Engine

T = TypeVar("T")

EXIT_DELAY_S = 5.0


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """Identity of a worker. `node` is the IP address of its node."""

    worker_id: str
    node: str
    pid: int
    engine: str
    version: int
    node_id: str = ""
    """Ray's id of the node."""


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """Totals since the worker's start. `busy_s`: seconds during which at least one request was running.
    `clock_s`: when the totals were read, by the worker's monotonic clock; rates are computed from it."""

    worker_id: str
    version: int
    requests: int
    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int
    busy_s: float
    clock_s: float


@dataclass(frozen=True, slots=True)
class HeldVersion:
    """The policy version that a worker holds after loading weights. `pause_s`: seconds for which loading them
    paused the engine."""

    version: int
    pause_s: float = 0.0


class RolloutWorker:
    """Samples groups and loads new weights. The fleet runs it as a Ray actor with the environment variables
    of `engine_environment`."""

    def __init__(
        self,
        worker_id: str,
        config: RolloutConfig,
        model_path: str,
        frames_per_video: int,
        seed: int,
        trust_remote_code: bool,
        frame_tokens: FrameTokens,
        adapters: AdapterServing | None = None,
    ) -> None:
        self._worker_id = worker_id
        self._config = config
        self._model_path = model_path
        self._frames_per_video = frames_per_video
        self._seed = seed
        self._trust_remote_code = trust_remote_code
        self._frame_tokens = frame_tokens
        self._adapters = adapters
        self._engine: Engine | None = None

    async def start(self) -> WorkerInfo:
        """Import vLLM and load the model. The import is here because it is slow."""
        if self._config.gpus_per_replica > 0:
            check_compiler()
        from rollout.engine_arguments import EngineSettings
        from rollout.engines import make_engine

        model_path = await asyncio.to_thread(downloaded, self._model_path)
        engine = make_engine(
            EngineSettings(
                model_path,
                self._frames_per_video,
                self._config,
                self._seed,
                self._trust_remote_code,
                self._frame_tokens,
                self._adapters,
            )
        )
        self._engine = engine  # before `start`, so that `close` ends the engine even if `start` fails
        await engine.start()
        return WorkerInfo(
            worker_id=self._worker_id,
            node=ray.util.get_node_ip_address(),
            pid=os.getpid(),
            engine=type(engine).__name__,
            version=engine.version,
            node_id=ray.get_runtime_context().get_node_id(),
        )

    async def sample(self, requests: Sequence[SamplingRequest], frames: np.ndarray) -> list[Group]:
        """Sample the groups of one video, all at the same policy version.

        Args:
            requests: requests for one clean ref and its perturbed copies.
            frames: uint8 [T, H, W, 3], the frames of the clean ref.
        """
        engine = self._running
        groups = await self._exit_if_dead(
            together(engine.generate(request, _frames_of(request, frames)) for request in requests)
        )
        return [replace(group, worker_id=self._worker_id) for group in groups]

    async def sample_all(
        self, batch: Sequence[Sequence[SamplingRequest]], frames: Sequence[np.ndarray | None]
    ) -> list[list[Group] | ValueError]:
        """Do what `sample` does for several videos, with less overhead than one call per video.

        A video without requests has no groups and needs no frames. If the engine rejects a video's requests,
        its result is the ValueError.
        """
        calls = [
            self.sample(requests, pixels) if pixels is not None else _nothing()
            for requests, pixels in zip(batch, frames, strict=True)
        ]
        results: list[list[Group] | ValueError] = []
        for result in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, ValueError):
                raise result
            results.append(result)
        return results

    async def load_weights(self, version: int, buckets: Sequence[ray.ObjectRef]) -> HeldVersion:
        """Load the weights of `version` from the object store; returns the version that the worker then
        holds.

        Each reference is to a `Bucket`, either of the whole model or of an adapter.
        """
        return await self._taking(self._running.load_weights(version, self._fetch(buckets)))

    async def init_transfer(self, init_info: dict[str, Any]) -> None:
        """Join the learner's NCCL group; see `Engine.init_transfer`."""
        await self._exit_if_dead(self._running.init_transfer(init_info))

    async def receive_weights(self, version: int, update_info: dict[str, Any]) -> HeldVersion:
        """Load the weights of `version` from the learner's broadcast; returns the version then held."""
        return await self._taking(self._running.receive_weights(version, update_info))

    async def ping(self) -> int:
        """Return the policy version that the worker holds."""
        return self._running.version

    async def stats(self) -> WorkerStats:
        engine = self._running
        totals = engine.stats
        return WorkerStats(
            self._worker_id,
            engine.version,
            totals.requests,
            totals.prompt_tokens,
            totals.cached_prompt_tokens,
            totals.completion_tokens,
            totals.busy_s,
            time.monotonic(),
        )

    async def close(self) -> None:
        """End the engine and its processes."""
        if self._engine is not None:
            await self._engine.close()

    @property
    def _running(self) -> Engine:
        if self._engine is None:
            raise RuntimeError(f"{self._worker_id} has not been started")
        return self._engine

    async def _taking(self, loading: Coroutine[Any, Any, None]) -> HeldVersion:
        engine = self._running
        paused_s = engine.paused_s
        await self._exit_if_dead(loading)
        return HeldVersion(engine.version, engine.paused_s - paused_s)

    def _fetch(self, buckets: Sequence[ray.ObjectRef]) -> AsyncIterator[Bucket]:
        """Yield the buckets in order. Each one is fetched while the engine loads its predecessor."""
        what = f"{self._worker_id}: weight bucket {{}} of {len(buckets)} from the object store"
        return one_ahead(
            within(bucket, self._config.sync_timeout_s, what.format(number))
            for number, bucket in enumerate(buckets, start=1)
        )

    async def _exit_if_dead(self, call: Coroutine[Any, Any, T]) -> T:
        """Await `call`. If the engine has died, raise its error and end this process `EXIT_DELAY_S` later:
        otherwise the actor would still get requests."""
        try:
            return await call
        except EngineDead:
            asyncio.get_running_loop().call_later(EXIT_DELAY_S, os._exit, 1)
            raise


async def _nothing() -> list[Group]:
    return []


def _frames_of(request: SamplingRequest, clean: np.ndarray) -> np.ndarray:
    perturbation = request.ref.perturbation
    return clean if perturbation is None else perturb(clean, perturbation)
