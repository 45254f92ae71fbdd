"""Copies of tensors in host memory, which are made fast and read while the originals change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK_BYTES = 2**28
"""Size of one chunk of pinned memory. PyTorch rounds each pinned allocation up to a power of two of bytes."""


@dataclass(frozen=True, slots=True)
class _Held:
    """The location of a tensor: its bytes begin at offset `start`, counted over all chunks."""

    name: str
    dtype: torch.dtype
    shape: torch.Size
    start: int
    n_bytes: int


class HostCopy:
    """A copy of tensors in host memory: all weights to be sent, or a rank's part of a checkpoint.

    CUDA tensors are copied into pinned memory, which is reused for the next copy.
    """

    def __init__(self, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._chunk_bytes = chunk_bytes
        self._chunks: list[Tensor] = []
        self._held: list[_Held] = []

    @property
    def n_bytes(self) -> int:
        """Size of the tensors held, in bytes."""
        return sum(held.n_bytes for held in self._held)

    def take(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Copy `tensors`, replacing the previous copy. The caller may change them once this returns."""
        self._held = []  # an incomplete copy must not be used
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

    def layout(self) -> list[tuple[str, torch.dtype, torch.Size]]:
        """Return name, dtype and shape of each tensor, in the order of `take`."""
        return [(held.name, held.dtype, held.shape) for held in self._held]

    def tensors(self, device: torch.device) -> Iterator[tuple[str, Tensor]]:
        """Yield the tensors with their names in the order of `take`, each copied to `device` only when it is
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
