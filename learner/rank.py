"""The Ray actor of one rank: a thin wrapper around `Trainer`.

One thread runs training calls in order. A second concurrency group answers calls while that thread is in a
collective. A third writes checkpoints.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import ray

from data.hub import downloaded
from data.tensor_bytes import bucket_of
from learner.checkpoint import Snapshot, begin_checkpoint, finish_checkpoint, write_shard
from learner.config import LearnerConfig
from learner.group_attention import select_attention_kernels
from learner.host_copy import HostCopy
from learner.records import LearnerInfo, RankShard, ReferenceLogprobs
from learner.trainer import LearnerSpec, Trainer
from learner.weight_transfer import NcclSender, WeightLayout, weight_layout
from learner.weights import gather_adapter, gather_buckets, send_behind
from learner.zero import Rendezvous, join_process_group, leave_process_group

CONCURRENCY = {"work": 1, "control": 2, "files": 1}

ALLOCATOR = "PYTORCH_ALLOC_CONF"

F = TypeVar("F", bound=Callable[..., Any])


def in_group(name: str) -> Callable[[F], F]:
    """Return `ray.method(concurrency_group=name)` with a type that keeps the decorated method's
    annotations."""
    decorate: Any = ray.method(concurrency_group=name)
    return decorate


def rank_environment(config: LearnerConfig) -> dict[str, str]:
    """Environment variables of a rank's process, read by torch as it is imported.

    Micro-batches differ in length, and segments that grow in place leave no gaps between them. A value in
    this process's own environment takes precedence.
    """
    if not config.gpus_per_rank:
        return {}
    return {ALLOCATOR: os.environ.get(ALLOCATOR, "expandable_segments:True")}


class LearnerRank:
    """One rank of the learner. All ranks must call its methods together, except those of the control
    group."""

    def __init__(self, rank: int, spec: LearnerSpec, threads: int) -> None:
        self._rank = rank
        self._spec = spec
        self._threads = threads
        self._sender = NcclSender(self._bucket_bytes)
        self._weights = HostCopy()
        self._snapshot = Snapshot()

    @in_group("control")
    def process(self) -> tuple[str, int]:
        """Return Ray's id of this node and this process's id."""
        return ray.get_runtime_context().get_node_id(), os.getpid()

    @in_group("control")
    def address(self) -> tuple[str, int]:
        """Return this node's IP address and a free port."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), probe.getsockname()[1]

    @in_group("work")
    def start(self, where: Rendezvous, checkpoint: Path | None) -> LearnerInfo:
        """Join the process group, load the sharded model and, if given, a checkpoint."""
        import torch

        started_s = time.monotonic()
        if self._spec.device == "cpu" or self._spec.config.offload != "none":
            torch.set_num_threads(self._threads)
        select_attention_kernels()
        join_process_group(where, self._spec.device)
        downloaded(self._spec.model_path)
        self._trainer = Trainer(self._spec)
        extra = self._trainer.load(checkpoint) if checkpoint is not None else {}
        trainable, frozen = self._trainer.parameter_counts()
        return LearnerInfo(
            where.world, self._trainer.layout, trainable, frozen, time.monotonic() - started_s, extra
        )

    @in_group("work")
    def update(self, version: int, shard: RankShard, *frames: np.ndarray) -> dict[str, float]:
        return self._trainer.update(shard, frames, version)

    @in_group("work")
    def logprobs(self, shard: RankShard, *frames: np.ndarray) -> list[list[list[float]]]:
        return self._trainer.logprobs(shard, frames)

    @in_group("work")
    def reference(self, shard: RankShard, *frames: np.ndarray) -> list[ReferenceLogprobs]:
        return self._trainer.reference(shard, frames)

    @in_group("work")
    def weight_buckets(self) -> list[ray.ObjectRef]:
        """Put the policy into the object store. Rank 0 returns a reference to each `Bucket`; other ranks
        return none. Weights keep the parameters' dtypes. If engines serve adapters, a single bucket holds the
        adapter."""
        policy = self._trainer.engine.module
        if self._spec.send_adapters:
            buckets = iter([gather_adapter(policy)])
        else:
            buckets = gather_buckets(policy, self._bucket_bytes)
        return send_behind(filter(None, buckets), lambda bucket: ray.put(bucket_of(bucket)))

    @in_group("work")
    def weight_layout(self) -> WeightLayout:
        return weight_layout(self._trainer.engine.module)

    @in_group("work")
    def join_transfer(self, host: str, port: int, world_size: int) -> None:
        """Open the NCCL group for sending weights to the engines. Only rank 0 joins it."""
        if self._rank == 0:
            self._sender.join(host, port, world_size)

    @in_group("work")
    def gather_weights(self) -> None:
        """Gather the policy into rank 0's host memory, for `send_weights`."""
        buckets = gather_buckets(self._trainer.engine.module, self._bucket_bytes)
        self._weights.take(named for bucket in buckets for named in bucket.items())

    @in_group("work")
    def send_weights(self) -> float:
        """Broadcast the weights from `gather_weights` to the engines, from rank 0; returns the seconds it
        took."""
        started_s = time.monotonic()
        if self._rank == 0:
            import torch

            self._sender.send(self._weights.tensors(torch.device("cuda")))
        return time.monotonic() - started_s

    @in_group("work")
    def save(self, folder: Path, extra: dict[str, Any]) -> None:
        self._trainer.save(folder, extra)

    @in_group("work")
    def snapshot(self) -> None:
        """Copy this rank's shard of a checkpoint to host memory, for `write_snapshot`."""
        self._snapshot.take(self._trainer.engine)

    @in_group("files")
    def begin_checkpoint(self, folder: Path) -> None:
        begin_checkpoint(folder)

    @in_group("files")
    def write_snapshot(self, folder: Path) -> None:
        """Write the snapshot without a collective, so that updates can run at the same time."""
        write_shard(self._snapshot.copy, folder, self._rank, self._snapshot.index["ranks"])

    @in_group("files")
    def finish_checkpoint(self, folder: Path, extra: dict[str, Any]) -> None:
        finish_checkpoint(folder, self._snapshot.index, extra)

    @in_group("work")
    def export_hf(self, folder: Path) -> None:
        from learner.checkpoint import export_hf

        export_hf(self._trainer.engine.module, self._trainer.processor, folder, self._bucket_bytes)

    @in_group("work")
    def leave(self) -> None:
        self._sender.leave()
        leave_process_group()

    @property
    def _bucket_bytes(self) -> int:
        return self._spec.config.bucket_mb * 2**20
