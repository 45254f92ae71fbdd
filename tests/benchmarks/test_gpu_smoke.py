"""The GPU smoke program's frame: deadlines, failures, what its learner's half imports, wheels to carry."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.gpu_smoke.__main__ import _problem
from benchmarks.gpu_smoke.collect_wheels import closure, names_in, read_lock
from benchmarks.gpu_smoke.data_sheet import peak_tflops
from benchmarks.gpu_smoke.report import Line, check, skip, summary
from benchmarks.gpu_smoke.runner import Step, run_steps
from benchmarks.gpu_smoke.sizes import FULL, TINY, Setting
from benchmarks.gpu_smoke.steps import ALL, LEARNER

ROOT = Path(__file__).resolve().parent.parent.parent


# Steps for the runner, which loads them by name in a process of its own.


def passes(setting: Setting) -> Iterator[Line]:
    yield check(True, "process", "", pid=os.getpid())


def raises(setting: Setting) -> Iterator[Line]:
    yield check(True, "before", "")
    raise ValueError("no such kernel")


def dies(setting: Setting) -> Iterator[Line]:
    print("last words", flush=True)
    yield check(True, "before", "")
    os._exit(7)


def hangs(setting: Setting) -> Iterator[Line]:
    yield check(True, "before", "")
    time.sleep(600)


def step(name: str, deadline_s: float = 60.0, fresh: bool = False) -> Step:
    return Step(name, f"{__name__}:{name}", deadline_s, fresh)


def test_a_step_that_fails_dies_or_hangs_costs_its_own_lines(tmp_path: Path) -> None:
    steps = [step("raises"), step("passes"), step("dies"), step("hangs", 3.0), step("passes")]
    found = [line for _, line in run_steps(steps, Setting("cpu", True, tmp_path), 120)]
    assert [line.status for line in found] == [
        *("PASS", "FAIL"),
        "PASS",
        *("PASS", "FAIL"),
        *("PASS", "FAIL"),
        "PASS",
    ]
    failures = [line.figure for line in found if line.status == "FAIL"]
    assert failures[0] == "ValueError: no such kernel"
    assert failures[1].startswith("its process ended with 7")
    assert "last words" in failures[1]
    assert failures[2] == "did not end within 3 s"


def test_a_process_runs_several_steps_unless_one_asks_for_its_own(tmp_path: Path) -> None:
    steps = [step("passes"), step("passes"), step("passes", fresh=True)]
    pids = [line.values["pid"] for _, line in run_steps(steps, Setting("cpu", True, tmp_path), 60)]
    assert pids[0] == pids[1] != pids[2]


def test_what_the_deadline_of_all_leaves_no_time_for_is_skipped(tmp_path: Path) -> None:
    found = list(run_steps([step("passes")], Setting("cpu", True, tmp_path), 0.0))
    assert [line.status for _, line in found] == ["SKIP"]


def test_every_step_can_be_loaded_and_has_a_name_of_its_own() -> None:
    import importlib

    for each in ALL:
        module, _, name = each.work.partition(":")
        assert callable(getattr(importlib.import_module(module), name))
    assert len({each.name for each in ALL}) == len(ALL)


def test_the_summary_counts() -> None:
    assert summary([check(True, "a", ""), skip("b", ""), skip("c", "")]) == "1 passed, 0 failed, 2 skipped"


def test_full_sizes_are_those_that_are_asked_for() -> None:
    attention = FULL.attention
    assert (attention.heads, attention.kv_heads, attention.head_dim) == (28, 4, 128)
    assert attention.prompts == (1784, 3000)
    lengths = [n for answers in attention.answers for n in answers]
    assert {len(answers) for answers in attention.answers} == {8}
    assert (min(lengths), max(lengths)) == (200, 2048)
    assert set(FULL.varied) == set(TINY.varied) == {"G", "prompt", "answer"}


@pytest.mark.parametrize(
    ("gpu", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.0),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA A10G", None),
        ("NVIDIA L40S", 362.0),
    ],
)
def test_a_peak_is_of_the_card_that_is_named(gpu: str, tflops: float | None) -> None:
    assert peak_tflops(gpu) == tflops


def test_the_learners_half_needs_neither_ray_nor_vllm() -> None:
    """Also where their packages are there: what imports them would fail on a machine without."""
    modules = sorted({each.work.partition(":")[0] for each in LEARNER} | {"learner.trainer"})
    code = (
        "import sys; sys.modules.update(ray=None, vllm=None)\n"
        f"import importlib\nfor name in {modules}: importlib.import_module(name)\n"
        "from learner.trainer import Trainer"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_without_a_gpu_the_program_says_what_can_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    problem = _problem(argparse.Namespace(device="cuda", tiny=False))
    assert problem is not None
    assert "--device cpu --tiny executes the steps" in problem
    assert "needs --tiny" in str(_problem(argparse.Namespace(device="cpu", tiny=False)))
    assert _problem(argparse.Namespace(device="cpu", tiny=True)) is None


# Wheels to carry

LOCK = """\
# made by a tool
filelock==4.2
    # via
    #   huggingface-hub
    #   torch
huggingface-hub==2.4
    # via transformers
sympy==1.14
    # via torch
torch==2.13
    # via deepspeed
transformers==5.19
    # via vqathinker-ray (pyproject.toml)
"""


def test_wheels_are_what_is_needed_and_not_there() -> None:
    versions, needs = read_lock(LOCK)
    assert versions["torch"] == "2.13"
    assert needs["torch"] == {"filelock", "sympy"}
    assert closure(["transformers"], needs, ["torch"]) == ["filelock", "huggingface-hub", "transformers"]
    assert closure(["deepspeed"], needs, ["torch"]) == ["deepspeed"]


def test_a_freeze_names_what_is_there() -> None:
    freeze = "torch==2.11.0\nhuggingface_hub==1.0\n-e ./x\nmine @ file:///x\n"
    assert names_in(freeze) == {"torch", "huggingface-hub", "mine"}
