"""New weights from a learner to an engine, phase by phase, and its transport against a bare broadcast.

Transport alone is what the object store does with the buckets of one version: put on one side, read into
memory of the receiver's own on the other. The bare broadcast is torch.distributed's, of the same tensors over
gloo between the same two processes, which take turns.
"""

import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import ray

from cluster.config import RunConfig
from cluster.weight_sync import ObjectStoreSync
from learner.group import LearnerGroup
from rollout.fleet import RolloutFleet
from rollout.worker import RolloutWorker
from runtime.actors import remote
from runtime.calls import within

TIMEOUT_S = 900.0


class Peer:
    """One end of the transport."""

    def __init__(self, shapes: Sequence[dict[str, tuple[int, ...]]], rank: int) -> None:
        """`shapes` of the tensors of each bucket, by name."""
        import torch

        self._rank = rank
        self._buckets = [{n: torch.rand(shape) for n, shape in bucket.items()} for bucket in shapes]

    def address(self) -> tuple[str, int]:
        import socket

        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), probe.getsockname()[1]

    def join(self, host: str, port: int) -> None:
        import torch

        torch.distributed.init_process_group(
            "gloo",
            init_method=f"tcp://{host}:{port}",
            rank=self._rank,
            world_size=2,
            timeout=timedelta(seconds=TIMEOUT_S),
        )

    def put(self) -> list[ray.ObjectRef]:
        from data.tensor_bytes import bucket_of

        return [ray.put(bucket_of(bucket)) for bucket in self._buckets]

    def take(self, buckets: Sequence[ray.ObjectRef]) -> None:
        """Read every bucket into this process's own tensors."""
        for own, reference in zip(self._buckets, buckets, strict=True):
            for name, held in ray.get(reference, timeout=TIMEOUT_S).items():
                own[name].copy_(held.tensor())

    def broadcast(self) -> None:
        import torch

        for bucket in self._buckets:
            for tensor in bucket.values():
                torch.distributed.broadcast(tensor, 0)


class TimedWorker(RolloutWorker):
    """A rollout worker that can be asked how long its caches take to be dropped."""

    async def cache_reset_s(self) -> float:
        began_s = time.perf_counter()
        await self._running._adopt(self._running.version)
        return time.perf_counter() - began_s


async def transport(shapes: Sequence[dict[str, tuple[int, ...]]], repeats: int) -> dict[str, Any]:
    """Seconds of the object store and of the broadcast for the same bytes."""
    actor: Any = ray.remote(num_cpus=0.5)(Peer)
    sender, receiver = (actor.remote(shapes, rank) for rank in (0, 1))
    try:
        host, port = await within(sender.address.remote(), TIMEOUT_S, "the sender's address")
        joining = [peer.join.remote(host, port) for peer in (sender, receiver)]
        for call in joining:
            await within(call, TIMEOUT_S, "joining")
        pairs: list[tuple[float, float]] = []
        for _ in range(1 + repeats):
            began_s = time.perf_counter()
            calls = [peer.broadcast.remote() for peer in (sender, receiver)]
            for call in calls:
                await within(call, TIMEOUT_S, "a broadcast")
            between_s = time.perf_counter()
            buckets = await within(sender.put.remote(), TIMEOUT_S, "putting buckets")
            await within(receiver.take.remote(buckets), TIMEOUT_S, "taking buckets")
            pairs.append((between_s - began_s, time.perf_counter() - between_s))
            del buckets
    finally:
        for peer in (sender, receiver):
            ray.kill(peer)
    counted = pairs[1:]
    return {
        "bare broadcast s": median(bare for bare, _ in counted),
        "transport s": median(ours for _, ours in counted),
        "bare / transport": median(bare / ours for bare, ours in counted),
        "turns": len(counted),
    }


async def phases(config: RunConfig, repeats: int) -> dict[str, Any]:
    """Seconds of the phases of a real push, medians."""
    learner = LearnerGroup(config.learner, config.model.path, total_updates=100)
    fleet = RolloutFleet(
        config.rollout, config.model.path, config.data.frames_per_video, 0, worker_class=TimedWorker
    )
    sync = ObjectStoreSync(learner, fleet, config)
    pushes: list[dict[str, float]] = []
    try:
        info = await learner.start()
        await fleet.start(config.rollout.replicas)
        reset = remote(TimedWorker.cache_reset_s)
        for _ in range(1 + repeats):
            measured = await sync.push()
            resets = await fleet.ask_healthy(reset, TIMEOUT_S)
            pushes.append(measured | {"reset_s": max(resets.values())})
    finally:
        await fleet.close()
        await learner.close()
    middle = {name: median(push[name] for push in pushes[1:]) for name in pushes[0]}
    return {
        "parameters": info.trainable_parameters + info.frozen_parameters,
        "gather and put s": middle["sync/gather_s"],
        "read and load s": middle["sync/load_s"] - middle["reset_s"],
        "cache reset s": middle["reset_s"],
        "whole push s": middle["sync/s"],
        "turns": repeats,
    }


def bucket_shapes(model: Path, bucket_mb: int) -> list[dict[str, tuple[int, ...]]]:
    """Shapes of the model's weights, by name, in buckets as the learner sends them."""
    from transformers import AutoModelForImageTextToText

    from learner.weights import bucket_plan, full_shape

    model_itself = AutoModelForImageTextToText.from_pretrained(model, dtype="float32")
    return [
        {weight.name: tuple(full_shape(weight.parameter)) for weight in bucket}
        for bucket in bucket_plan(model_itself, bucket_mb * 2**20)
    ]
