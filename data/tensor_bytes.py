"""Tensors in the form in which the learner sends them to the engines through the object store.

numpy has no bfloat16, so a tensor is sent as its bytes with the name of its dtype. Ray maps byte arrays into
a process without a copy, and bfloat16 takes half the space of float32.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# (name, dtype, shape) of each tensor, in the order of their bytes.
Layout = list[tuple[str, str, list[int]]]


@dataclass(frozen=True, slots=True)
class TensorBytes:
    """A tensor as flat uint8 `data`, its shape, and the name of its torch dtype, such as "bfloat16"."""

    dtype: str
    shape: tuple[int, ...]
    data: np.ndarray

    @classmethod
    def of(cls, tensor: Tensor) -> TensorBytes:
        """Convert a tensor. The result shares its memory if the tensor is in host memory."""
        flat = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        return cls(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), flat.numpy())

    def tensor(self) -> Tensor:
        """Return a tensor that shares this memory. The memory may be read-only, so never write to the
        tensor."""
        dtype = getattr(torch, self.dtype)
        if not self.data.size:  # an empty array has no bytes to reinterpret
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
    """Convert a bucket to plain values that can be sent to another process in a message."""
    layout = [(name, held.dtype, list(held.shape)) for name, held in bucket.items()]
    return layout, b"".join(held.data.tobytes() for held in bucket.values())


def unpack(layout: Layout, payload: bytes) -> dict[str, TensorBytes]:
    """Invert `pack`. The arrays are read-only views of `payload`."""
    bucket, offset = {}, 0
    for name, dtype, shape in layout:
        n_bytes = math.prod(shape) * getattr(torch, dtype).itemsize
        data = np.frombuffer(payload, np.uint8, n_bytes, offset)
        bucket[name] = TensorBytes(dtype, tuple(shape), data)
        offset += n_bytes
    return bucket
