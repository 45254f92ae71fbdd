"""Updates with `learner.offload` equal those without at a GPU's precision; checkpoints come back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmarks.gpu_smoke.learner_side import trainer
from benchmarks.gpu_smoke.models import random_model, random_shard
from benchmarks.gpu_smoke.sizes import Device, Setting
from learner.records import RankShard
from tests.gpu.conftest import setting_for

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

Batch = tuple[RankShard, list[np.ndarray]]

LEARNING: dict[str, Any] = {"lr": 1e-4, "eps": 1e-6, "kl_coefficient": 0.04}
UPDATES = 2


def state(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "rank-0-of-1.safetensors")


def masters(folder: Path) -> torch.Tensor:
    found = state(folder)
    return torch.cat([found[name] for name in sorted(found) if name.startswith("fp32/")])


def train(setting: Setting, model: Path, batch: Batch, offload: str, folder: Path) -> list[float]:
    """Save before, after, and again what was loaded after another update; returns the gradient norms."""
    shard, frames = batch
    with trainer(setting, model, **LEARNING, offload=offload) as made:
        made.save(folder / "v0", {})
        norms = [made.update(shard, frames, version)["learner/grad_norm"] for version in range(UPDATES)]
        made.save(folder / "v2", {})
        made.update(shard, frames, UPDATES)
        made.load(folder / "v2")
        made.save(folder / "again", {})
    return norms


@pytest.mark.parametrize(
    ("device", "offload"),
    [
        pytest.param("cpu", "optimizer", marks=pytest.mark.slow),
        ("cpu", "optimizer_and_parameters"),
        pytest.param("cuda", "optimizer", marks=pytest.mark.gpu),
        pytest.param("cuda", "optimizer_and_parameters", marks=pytest.mark.gpu),
    ],
)
def test_updates_and_checkpoints_are_those_without(
    device: Device, offload: str, folders: dict[Device, Path], tmp_path: Path
) -> None:
    """Kernels that add in any order let some weights differ, by far less than they moved."""
    setting = setting_for(device, folders)
    size = setting.sizes.small["internvl"]
    model = random_model("internvl", size, setting.folder / "offload", device)
    batch = random_shard(model, size, setting.sizes.update)
    expected = train(setting, model, batch, "none", tmp_path / "none")
    found = train(setting, model, batch, offload, tmp_path / "host")
    assert found == pytest.approx(expected, rel=0.01)
    before, plain, host = (masters(tmp_path / name) for name in ("none/v0", "none/v2", "host/v2"))
    assert torch.equal(before, masters(tmp_path / "host" / "v0"))
    moved = (plain - before).abs().mean()
    assert moved > 0
    assert (host - plain).abs().mean() < 0.05 * moved
    saved, again = state(tmp_path / "host" / "v2"), state(tmp_path / "host" / "again")
    assert all(torch.equal(saved[name], again[name]) for name in saved | again)
