"""Tensors keep their type, their bits and the number of their bytes on the way to the engines."""

import pickle

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from data.tensor_bytes import bucket_of, pack, tensors_of, unpack

shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
types = st.sampled_from([torch.bfloat16, torch.float32, torch.float16, torch.int64, torch.bool])


@given(st.lists(st.tuples(shapes, types, st.integers(0, 2**31)), max_size=5))
def test_what_arrives_is_what_was_sent(drawn: list[tuple[tuple[int, ...], torch.dtype, int]]) -> None:
    """Every bit, NaN included, through shared memory and through messages; offsets need not be aligned."""
    tensors: dict[str, Tensor] = {}
    for number, (shape, dtype, seed) in enumerate(drawn):
        n_bytes = int(np.prod(shape)) * dtype.itemsize
        bits = np.random.default_rng(seed).integers(0, 2 if dtype == torch.bool else 256, n_bytes, np.uint8)
        tensors[f"w{number}"] = torch.empty(shape, dtype=dtype)
        tensors[f"w{number}"].flatten().view(torch.uint8).copy_(torch.from_numpy(bits))
    bucket = bucket_of(tensors)
    assert sum(held.data.nbytes for held in bucket.values()) == sum(t.nbytes for t in tensors.values())
    buffers: list[pickle.PickleBuffer] = []
    stored = pickle.dumps(bucket, protocol=5, buffer_callback=buffers.append)
    for arrived in (pickle.loads(stored, buffers=buffers), unpack(*pack(bucket))):
        for (name, found), (expected_name, expected) in zip(
            tensors_of(arrived), tensors.items(), strict=True
        ):
            assert (name, found.dtype, found.shape) == (expected_name, expected.dtype, expected.shape)
            assert found.flatten().view(torch.uint8).tolist() == expected.flatten().view(torch.uint8).tolist()


def test_bfloat16_takes_two_bytes_a_value_and_is_stored_without_a_copy() -> None:
    weights = torch.randn(300, 7, dtype=torch.bfloat16).T
    bucket = bucket_of({"transposed": weights, "float32": torch.zeros(5)})
    assert bucket["transposed"].data.nbytes == 2 * 300 * 7
    assert bucket["float32"].data.nbytes == 4 * 5
    buffers: list[pickle.PickleBuffer] = []
    pickle.dumps(bucket, protocol=5, buffer_callback=buffers.append)
    assert [buffer.raw().nbytes for buffer in buffers] == [4200, 20], "Ray maps such buffers into its readers"
    assert torch.equal(dict(tensors_of(bucket))["transposed"], weights)
