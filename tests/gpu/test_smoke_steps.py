"""Every step of `benchmarks.gpu_smoke` passes: the learner, the engine and what they cost."""

from pathlib import Path

import pytest

from benchmarks.gpu_smoke.runner import Step, run_steps
from benchmarks.gpu_smoke.sizes import Device
from benchmarks.gpu_smoke.steps import ALL
from tests.gpu.conftest import setting_for

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

SLACK = 2.0
"""Deadlines are those of a GPU and of many cores."""


@pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=pytest.mark.gpu)]
)
@pytest.mark.parametrize("step", ALL, ids=[step.name for step in ALL])
def test_step(step: Step, device: Device, folders: dict[Device, Path]) -> None:
    found = run_steps([step], setting_for(device, folders), SLACK * step.deadline_s)
    lines = [line for _, line in found]
    for line in lines:
        print(line)
    assert lines
    assert not [str(line) for line in lines if line.status == "FAIL"]
