"""Two updates of `configs/one-gpu-lora.toml`: learner and engine share one GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu_smoke.models import random_model
from benchmarks.gpu_smoke.sizes import Device
from tests.gpu.conftest import setting_for
from tests.runs import ROOT, lines, make_set

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

TIMEOUT_S = 800
ON_THE_CPU = [
    "--rollout.gpus_per_replica=0",
    "--rollout.max_completion_tokens=12",
    "--rollout.max_model_tokens=1024",
    "--learner.gpus_per_rank=0",
    "--cluster.object_store_mb=200",
]
MOST_MISMATCH = 0.01
"""KL between learner and engine a token: what two ways of computing in bfloat16 may make."""


@pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=pytest.mark.gpu)]
)
def test_two_updates(device: Device, folders: dict[Device, Path], tmp_path: Path) -> None:
    setting = setting_for(device, folders)
    model = random_model("internvl", setting.sizes.small["internvl"], setting.folder / "model", device)
    run = tmp_path / "run"
    arguments = [
        sys.executable,
        str(ROOT / "launch.py"),
        "train",
        str(ROOT / "configs" / "one-gpu-lora.toml"),
        f"--data.manifest={make_set(tmp_path)}",
        f"--model.path={model}",
        f"--run_dir={run}",
        "--schedule.updates=2",
        "--schedule.videos_per_cohort=4",
        "--schedule.completions_per_video=2",
        "--schedule.cohorts_per_update=1",
        "--evaluation.every_updates=0",
        "--evaluation.bootstrap_samples=100",
        "--data.frames_per_video=2",
        "--rollout.max_completion_tokens=64",
        "--learner.warmup_updates=0",
        *(ON_THE_CPU if device == "cpu" else []),
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = lines(run, "metrics")
    assert [m["update"] for m in metrics] == [0, 1]
    groups = lines(run, "groups")
    assert {version for group in groups for row in group["clean"]["versions"] for version in row} == {0, 1}
    mismatch = [m["policy/mismatch_kl"] for m in metrics if "policy/mismatch_kl" in m]
    assert all(0 <= value < MOST_MISMATCH for value in mismatch), metrics
    assert json.loads((run / "summary.json").read_text())["updates"] == 2
    assert (run / "final" / "adapter" / "adapter_model.safetensors").exists()
