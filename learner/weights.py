"""Weights out of a ZeRO-3 engine, bucket by bucket.

`gather_buckets` is the one source: exports and every transport to the engines read from it. All ranks run it
in lockstep, for each bucket is a collective; only rank 0 is handed tensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_POLICY_PREFIX = "model."
"""What the policy's wrapper adds to the names of the Hugging Face model."""


def hf_name(parameter_name: str) -> str:
    """The name under which transformers and vLLM know a parameter of the policy."""
    return parameter_name.removeprefix(_POLICY_PREFIX)


def bucket_plan(policy: nn.Module, bucket_bytes: int) -> list[list[tuple[str, nn.Parameter]]]:
    """Parameters in order, cut into buckets of at most `bucket_bytes` (a larger one stands alone).

    Names are those of Hugging Face; tied parameters appear once.
    """
    buckets: list[list[tuple[str, nn.Parameter]]] = []
    filled = 0
    for name, parameter in policy.named_parameters():
        size = _numel(parameter) * parameter.element_size()
        if not buckets or filled + size > bucket_bytes:
            buckets.append([])
            filled = 0
        buckets[-1].append((hf_name(name), parameter))
        filled += size
    return buckets


def gather_buckets(policy: nn.Module, bucket_bytes: int) -> Iterator[dict[str, Tensor]]:
    """Full parameters by name, one bucket at a time: clones on rank 0, an empty dict elsewhere.

    Every rank must run the iterator to its end. Clones, because a gathered parameter's memory is given back
    when its bucket ends.
    """
    import deepspeed

    rank = torch.distributed.get_rank()
    for bucket in bucket_plan(policy, bucket_bytes):
        with deepspeed.zero.GatheredParameters([p for _, p in bucket]):
            tensors = {name: p.detach().clone() for name, p in bucket} if rank == 0 else {}
        yield tensors


def to_numpy(bucket: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """A bucket for the object store; numpy has no bfloat16, so that is widened to float32, without loss."""
    return {name: (t.float() if t.dtype == torch.bfloat16 else t).cpu().numpy() for name, t in bucket.items()}


def count_parameters(policy: nn.Module) -> tuple[int, int]:
    """Numbers of (trainable, frozen) parameters of a sharded policy."""
    counts = {True: 0, False: 0}
    for parameter in policy.parameters():
        counts[parameter.requires_grad] += _numel(parameter)
    return counts[True], counts[False]


def full_shape(parameter: Any) -> list[int]:
    """Shape of the whole parameter, partitioned or not."""
    return list(getattr(parameter, "ds_shape", parameter.shape))


def _numel(parameter: Any) -> int:
    """Size of the whole parameter; a partitioned one holds nothing itself."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))
