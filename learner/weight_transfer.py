"""Sends weights to the engines over NCCL: the sending side of vLLM's native weight transfer.

vLLM's trainer client numbers the processes of every engine from rank 1, so several replicas would collide,
and it waits without a deadline. So only vLLM's communicator and packed broadcast are used here, and the
caller assigns each engine its own ranks. Rank 0 of the group is the learner's rank 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from learner.group_attention import select_attention_kernels
from learner.weights import full_shape, model_weights

BUFFERS = 2


@dataclass(frozen=True, slots=True)
class WeightLayout:
    """Names, dtypes and shapes of the weights, in the order of sending."""

    names: list[str]
    dtype_names: list[str]
    shapes: list[list[int]]


def weight_layout(policy: nn.Module) -> WeightLayout:
    """Return the layout of a (sharded) policy's weights, with their Hugging Face names."""
    weights = model_weights(policy)
    return WeightLayout(
        names=[weight.name for weight in weights],
        dtype_names=[str(weight.parameter.dtype).removeprefix("torch.") for weight in weights],
        shapes=[full_shape(weight.parameter) for weight in weights],
    )


class NcclSender:
    """Rank 0 of the NCCL group of the learner and the engines. Needs CUDA."""

    def __init__(self, buffer_bytes: int) -> None:
        self._buffer_bytes = buffer_bytes
        self._group: Any = None

    def join(self, host: str, port: int, world_size: int) -> None:
        """Open a new group, and block until all engines have joined. This leaves an older group first,
        because vLLM would replace it without destroying it."""
        from vllm.distributed.weight_transfer.nccl_common import trainer_init

        select_attention_kernels()
        self.leave()
        _stay_on_current_stream()
        self._group = trainer_init({"master_address": host, "master_port": port, "world_size": world_size})

    def send(self, tensors: Iterator[tuple[str, Tensor]]) -> None:
        """Broadcast tensors in the order of the layout, and block until every engine has them."""
        from vllm.distributed.weight_transfer.packed_tensor import packed_nccl_broadcast_producer

        if self._group is None:
            raise RuntimeError("no transfer group is open: call join first")
        _stay_on_current_stream()
        packed_nccl_broadcast_producer(
            iterator=tensors,
            group=self._group,
            src=0,
            post_iter_func=lambda item: _used_by_current_stream(item[1]),
            buffer_size_bytes=self._buffer_bytes,
            num_buffers=BUFFERS,
        )

    def leave(self) -> None:
        if self._group is not None:
            self._group.destroy()
            self._group = None


def _stay_on_current_stream() -> None:
    """Make vLLM's communicator use the stream that this thread computes on.

    vLLM's `current_stream()` (vllm/utils/torch_utils.py) returns the stream last set in this thread through
    `torch.cuda.set_stream`, which vLLM patches on import. If none was set, it creates a stream and leaves it
    current. The learner would then compute on that stream, and could not reuse the memory that the allocator
    caches for the previous one.
    """
    torch.cuda.set_stream(torch.cuda.current_stream())


def _used_by_current_stream(tensor: Tensor) -> Tensor:
    """Record that the current stream uses `tensor`. vLLM packs on two streams in turn, so a tensor made on
    one may be read on the other, and its memory must not be reused before that."""
    tensor.record_stream(torch.cuda.current_stream())
    return tensor
