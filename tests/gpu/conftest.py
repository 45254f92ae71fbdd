"""Bodies that run on GPUs at a model's sizes, and on the CPU at tiny ones."""

from pathlib import Path

import pytest

from benchmarks.gpu_smoke.sizes import Device, Setting


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Device, Path]:
    """Where the random models lie that the tests of a module share."""
    return {"cpu": tmp_path_factory.mktemp("cpu"), "cuda": tmp_path_factory.mktemp("cuda")}


def setting_for(device: Device, folders: dict[Device, Path]) -> Setting:
    return Setting(device, tiny=device == "cpu", folder=folders[device])
