"""One rank of the learner in this process: what several steps do with it."""

from __future__ import annotations

import gc
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.gpu_smoke.sizes import Device, Setting
from learner import zero
from learner.config import LearnerConfig
from learner.trainer import LearnerSpec, Trainer
from learner.weights import gather_buckets
from learner.zero import Rendezvous, join_process_group

TIMEOUT_S = 300.0
TOTAL_UPDATES = 100
TEMPERATURE = 1.0
BUCKET_BYTES = 256 * 2**20

SETTINGS: dict[str, Any] = {
    "ranks": 1,
    "lr": 1e-5,
    "warmup_updates": 0,
    "min_lr_ratio": 1.0,
    "kl_coefficient": 0.04,
    "micro_batch_tokens": 16_384,
}


def be_the_only_rank(device: Device) -> None:
    """Join a process group of one, once a process: NCCL on a GPU, gloo on the CPU."""
    if torch.distributed.is_initialized():
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    join_process_group(Rendezvous("127.0.0.1", port, 0, 1, TIMEOUT_S), device)


@contextmanager
def trainer(setting: Setting, model: Path, **settings: Any) -> Iterator[Trainer]:
    """A trainer of `model`, and none of its memory afterwards."""
    be_the_only_rank(setting.device)
    gpus = {"gpus_per_rank": 1.0 if setting.device == "cuda" else 0.0}
    config = LearnerConfig.model_validate(SETTINGS | gpus | settings)
    with gpu_precision():
        made = Trainer(LearnerSpec(config, str(model), TOTAL_UPDATES, TEMPERATURE, setting.device))
    try:
        yield made
    finally:
        made.engine.destroy()
        del made
        free_memory(setting.device)


@contextmanager
def gpu_precision() -> Iterator[None]:
    """Models that are built inside have the learner's precision on GPUs, bfloat16 with float32 gradients and
    master weights, on the CPU too: so its code runs there as it does on a GPU."""
    with mock.patch.object(zero, "compute_dtype", return_value=torch.bfloat16):
        yield


def free_memory(device: Device) -> None:
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def synchronized_s(device: Device) -> float:
    """The time, once the GPU has done all that it was asked for."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def forget_peak(device: Device) -> None:
    free_memory(device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_gb(device: Device) -> float:
    """What the allocator of this process held at its highest; on the CPU, its resident memory."""
    if device == "cuda":
        return torch.cuda.max_memory_reserved() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def policy_weights(made: Trainer) -> dict[str, torch.Tensor]:
    """The policy's weights as engines get them, in host memory."""
    buckets = gather_buckets(made.engine.module, BUCKET_BYTES)
    return {name: tensor.cpu() for bucket in buckets for name, tensor in bucket.items()}


def largest_change(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> float:
    return max(float((after[name].float() - before[name].float()).abs().max()) for name in before)
