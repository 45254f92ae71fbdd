"""Sends weights to the engines over NCCL: the sending side of vLLM's native weight transfer.

vLLM's trainer client numbers the processes of every engine from rank 1, so several replicas would collide,
and it waits without a deadline. So only vLLM's communicator and packed broadcast are used here, and the
caller assigns each engine its own ranks. Rank 0 of the group is the learner's rank 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from learner.group_attention import select_attention_kernels
from learner.weights import full_shape, model_weights

BUFFERS = 2

CHUNK_BYTES = 2**28
"""Size of one chunk of pinned memory. PyTorch rounds each pinned allocation up to a power of two of bytes."""


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


@dataclass(frozen=True, slots=True)
class _Held:
    """The location of a weight: its bytes begin at offset `start`, counted over all chunks."""

    name: str
    dtype: torch.dtype
    shape: torch.Size
    start: int
    n_bytes: int


class HostWeights:
    """A copy of all weights in host memory, to be sent to the engines once it is complete.

    CUDA weights are copied into pinned memory, which is reused for the next copy.
    """

    def __init__(self, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._chunk_bytes = chunk_bytes
        self._chunks: list[Tensor] = []
        self._held: list[_Held] = []

    @property
    def n_bytes(self) -> int:
        """Size of the weights held, in bytes."""
        return sum(held.n_bytes for held in self._held)

    def take(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Copy `tensors`, replacing the previous copy. The caller may change them once this returns."""
        self._held = []  # an incomplete copy must not be sent
        held: list[_Held] = []
        start, is_cuda = 0, False
        for name, tensor in tensors:
            flat = tensor.reshape(-1).view(torch.uint8)
            for first, place in self._places(start, len(flat), pinned=tensor.is_cuda):
                place.copy_(flat[first : first + len(place)], non_blocking=True)
            held.append(_Held(name, tensor.dtype, tensor.shape, start, len(flat)))
            start += len(flat)
            is_cuda |= tensor.is_cuda
        if is_cuda:
            torch.cuda.current_stream().synchronize()
        self._held = held

    def tensors(self, device: torch.device) -> Iterator[tuple[str, Tensor]]:
        """Yield the weights with their names in the order of `take`, each copied to `device` only when it is
        reached. On CUDA the copy is ordered on the stream that is current at that moment."""
        for held in self._held:
            tensor = torch.empty(held.shape, dtype=held.dtype, device=device)
            flat = tensor.view(-1).view(torch.uint8)
            for first, place in self._places(held.start, held.n_bytes, pinned=tensor.is_cuda):
                flat[first : first + len(place)].copy_(place, non_blocking=True)
            yield held.name, tensor

    def _places(self, start: int, n_bytes: int, pinned: bool) -> Iterator[tuple[int, Tensor]]:
        """Yield the parts of chunks that hold `n_bytes` from offset `start`, each with the number of bytes
        before it."""
        done = 0
        while done < n_bytes:
            number, first = divmod(start + done, self._chunk_bytes)
            if number == len(self._chunks):
                self._chunks.append(torch.empty(self._chunk_bytes, dtype=torch.uint8, pin_memory=pinned))
            place = self._chunks[number][first : first + n_bytes - done]
            yield done, place
            done += len(place)


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
