"""Tensors in transfer from the learner to the engines through the object store, in their own type.

numpy has no bfloat16, so a tensor is sent as its bytes with the name of its type. Ray maps byte arrays into a
process without a copy, and they take half the space of float32.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# (name, type, shape) of each tensor, in the order of their bytes.
Layout = list[tuple[str, str, list[int]]]


@dataclass(frozen=True, slots=True)
class TensorBytes:
    """A tensor's `data` (uint8, flat), its shape, and the name of its type in torch, such as "bfloat16"."""

    dtype: str
    shape: tuple[int, ...]
    data: np.ndarray

    @classmethod
    def of(cls, tensor: Tensor) -> TensorBytes:
        """Share the tensor's memory if it is on the host."""
        flat = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        return cls(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), flat.numpy())

    def tensor(self) -> Tensor:
        """The tensor over the same memory, which may be read-only: copy from it, never write to it."""
        dtype = getattr(torch, self.dtype)
        if not self.data.size:  # no bytes to look at
            return torch.empty(self.shape, dtype=dtype)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given buffer is not writable")
            return torch.frombuffer(self.data, dtype=dtype).view(self.shape)


Bucket = Mapping[str, TensorBytes]
"""Some of a model's weights by their Hugging Face names."""


def bucket_of(tensors: Mapping[str, Tensor]) -> dict[str, TensorBytes]:
    return {name: TensorBytes.of(tensor) for name, tensor in tensors.items()}


def tensors_of(bucket: Bucket) -> Iterator[tuple[str, Tensor]]:
    return ((name, held.tensor()) for name, held in bucket.items())


def pack(bucket: Bucket) -> tuple[Layout, bytes]:
    """A bucket as plain values, to send it to a process as a message."""
    layout = [(name, held.dtype, list(held.shape)) for name, held in bucket.items()]
    return layout, b"".join(held.data.tobytes() for held in bucket.values())


def unpack(layout: Layout, payload: bytes) -> dict[str, TensorBytes]:
    """The inverse of `pack`; the arrays are read-only views of `payload`."""
    bucket, offset = {}, 0
    for name, dtype, shape in layout:
        n_bytes = math.prod(shape) * getattr(torch, dtype).itemsize
        data = np.frombuffer(payload, np.uint8, n_bytes, offset)
        bucket[name] = TensorBytes(dtype, tuple(shape), data)
        offset += n_bytes
    return bucket
