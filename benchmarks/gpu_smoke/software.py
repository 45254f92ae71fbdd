"""Versions, the GPU itself, and whether Triton can compile here."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Iterator

from benchmarks.gpu_smoke.report import Line, check, skip
from benchmarks.gpu_smoke.sizes import Setting

NEEDED = (
    "torch",
    "torchvision",
    "transformers",
    "deepspeed",
    "peft",
    "accelerate",
    "pydantic_settings",
    "scipy",
)


def versions(setting: Setting) -> Iterator[Line]:
    found = {}
    for name in NEEDED:
        try:
            found[name] = str(getattr(importlib.import_module(name), "__version__", "unknown"))
        except ImportError as error:
            yield check(False, f"import {name}", f"{error}; benchmarks/README.md says how to carry wheels")
    import torch

    shown = ", ".join(f"{name} {version}" for name, version in found.items())
    yield check(len(found) == len(NEEDED), "versions", shown, **found)
    if setting.device == "cpu":
        yield skip("GPU", "the device is the CPU")
        return
    properties = torch.cuda.get_device_properties(0)
    yield check(
        torch.version.cuda is not None and torch.cuda.is_bf16_supported(),
        "GPU",
        f"{properties.name}, {properties.total_memory / 1e9:.1f} GB, compute capability "
        f"{properties.major}.{properties.minor}, CUDA {torch.version.cuda}, "
        f"NCCL {'.'.join(map(str, torch.cuda.nccl.version()))}",
        memory_gb=properties.total_memory / 1e9,
    )


def triton(setting: Setting) -> Iterator[Line]:
    """Compile, run and check a kernel: vLLM's sampler has some. On the CPU Triton's interpreter runs it."""
    if setting.device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
    try:
        from benchmarks.gpu_smoke.triton_kernel import multiply_add
    except ImportError as error:
        yield skip("Triton kernel", f"Triton is not installed ({error})")
        return
    import torch

    count = 4096 if setting.tiny else 2**24
    a, b = (torch.randn(count, device=setting.device) for _ in range(2))
    started_s = time.perf_counter()
    found = multiply_add(a, b, 0.5)
    wrong = int((~torch.isclose(found, a * 0.5 + b)).sum())
    seconds = time.perf_counter() - started_s
    how = "interpreted" if setting.device == "cpu" else "compiled and run"
    yield check(
        wrong == 0, "Triton kernel", f"{how} in {seconds:.1f} s, {wrong} of {count} sums wrong", s=seconds
    )
