"""Files that are written one tensor at a time are safetensors files like any other."""

import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from learner.checkpoint import write_tensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_safetensors_reads_what_was_written(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {
        "fp32/ä": torch.randn(5, 3).to(dtype),
        "empty": torch.empty(0, dtype=dtype),
        "transposed": torch.randn(4, 6).to(dtype).T,
        "scalar": torch.tensor(2.5, dtype=dtype),
    }
    write_tensors(tensors, tmp_path / "a.safetensors")
    read = load_file(tmp_path / "a.safetensors")
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == dtype
        assert read[name].shape == tensor.shape
        assert read[name].equal(tensor)


class Made(Mapping[str, torch.Tensor]):
    """Makes each tensor when it is asked for, and counts how many of them are alive."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._made: list[weakref.ref[torch.Tensor]] = []
        self.most_alive = 0

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor = torch.zeros(8)
        self._made.append(weakref.ref(tensor))
        self.most_alive = max(self.most_alive, sum(made() is not None for made in self._made))
        return tensor

    def __iter__(self) -> Iterator[str]:
        return (str(number) for number in range(self._count))

    def __len__(self) -> int:
        return self._count


def test_few_tensors_are_alive_at_a_time(tmp_path: Path) -> None:
    made = Made(20)
    write_tensors(made, tmp_path / "a.safetensors")
    assert len(load_file(tmp_path / "a.safetensors")) == 20
    assert made.most_alive <= 3
