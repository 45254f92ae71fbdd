"""Actors that answer the calls of a rollout worker and of a learner rank, after given seconds of sleep.

What they import is light, torch not among it: dozens of them share one machine.
"""

import asyncio
import os
import random
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import ray

from cluster.planning.engines import Answers, EngineSpeed, TokenEngine
from data.records import Completion, Group, SamplingRequest
from rollout.config import RolloutConfig
from rollout.drain_gate import DrainGate
from rollout.environment import in_flight
from rollout.worker import HeldVersion, WorkerInfo, WorkerStats
from runtime.calls import within

CALL_TIMEOUT_S = 600.0


class SleepingEngine:
    """A rollout worker that sleeps `rollout_s` for each video, whatever else it is asked meanwhile."""

    rollout_s = 0.0

    def __init__(self, worker_id: str, config: RolloutConfig, *_: Any) -> None:
        self._worker_id = worker_id
        self._keep = in_flight(config) == "keep"
        self._gate = DrainGate()
        self._version = self._requests = self._tokens = 0

    async def start(self) -> WorkerInfo:
        node, node_id = ray.util.get_node_ip_address(), ray.get_runtime_context().get_node_id()
        return WorkerInfo(self._worker_id, node, os.getpid(), "sleeping", self._version, node_id)

    async def sample(self, requests: Sequence[SamplingRequest], frames: np.ndarray) -> list[Group]:
        async with self._gate.entered():
            version = self._version
            await asyncio.sleep(self.rollout_s)
        self._requests += len(requests)
        self._tokens += sum(len(r.seeds) for r in requests)
        return [self._group(request, version) for request in requests]

    async def load_weights(self, version: int, buckets: Sequence[ray.ObjectRef]) -> HeldVersion:
        async with self._gate.closed() if self._keep else self._gate.drained():
            paused_at_s = time.monotonic()
            for bucket in buckets:
                await within(bucket, CALL_TIMEOUT_S, f"{self._worker_id}: weights")
            self._version = version
        return HeldVersion(version, time.monotonic() - paused_at_s)

    async def ping(self) -> int:
        return self._version

    async def stats(self) -> WorkerStats:
        busy_s, now_s = self._gate.busy_s, time.monotonic()
        return WorkerStats(self._worker_id, self._version, self._requests, 0, 0, self._tokens, busy_s, now_s)

    async def close(self) -> None:
        pass

    def _group(self, request: SamplingRequest, version: int) -> Group:
        completions = [
            Completion(
                [1], [-1.0], f"<think>a</think><answer>{1 + (seed or 0) % 400 / 100:.2f}</answer>", "stop",
                [version], seed,
            )
            for seed in request.seeds
        ]  # fmt: skip
        return Group(request.ref, [1], completions, self._worker_id, self.rollout_s)


class TokenSleepingEngine(SleepingEngine):
    """A rollout worker that sleeps as long as an engine decodes answers of drawn lengths, all in step."""

    speed = EngineSpeed(0.0, 0.0, 0.0, 0.0)
    answers = Answers()
    load_s = 0.0

    def __init__(self, worker_id: str, config: RolloutConfig, *others: Any) -> None:
        super().__init__(worker_id, config, *others)
        self._engine = TokenEngine(self.speed)

    async def sample(self, requests: Sequence[SamplingRequest], frames: np.ndarray) -> list[Group]:
        lengths = [
            [self.answers.draw(random.Random(seed), request.max_tokens) for seed in request.seeds]
            for request in requests
        ]
        async with self._gate.entered():
            version = self._version
            await self._engine.serve(lengths)
        self._requests += len(requests)
        self._tokens += sum(map(sum, lengths))
        return [self._group(request, version) for request in requests]

    async def load_weights(self, version: int, buckets: Sequence[ray.ObjectRef]) -> HeldVersion:
        async with self._gate.closed() if self._keep else self._gate.drained():
            paused_at_s = time.monotonic()
            self._engine.pause()
            for bucket in buckets:
                await within(bucket, CALL_TIMEOUT_S, f"{self._worker_id}: weights")
            await asyncio.sleep(self.load_s)
            self._version = version
            self._engine.resume()
        return HeldVersion(version, time.monotonic() - paused_at_s)


class SleepingRank:
    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def update(self, seconds: float) -> dict[str, float]:
        time.sleep(seconds)
        return {"learner/update_s": seconds}

    def weight_buckets(self) -> list[ray.ObjectRef]:
        return [ray.put({"weight": np.zeros(1024, np.float32)})]
