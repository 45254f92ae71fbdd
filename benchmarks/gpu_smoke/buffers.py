"""Buffers of a model that is sharded as it is loaded, in bfloat16: rotary frequencies stay exact."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.gpu_smoke.learner_side import be_the_only_rank, free_memory, gpu_precision
from benchmarks.gpu_smoke.models import random_model
from benchmarks.gpu_smoke.report import Line, check
from benchmarks.gpu_smoke.sizes import Kind, Setting
from learner import zero
from learner.config import LearnerConfig

ROPES: list[tuple[Kind, dict[str, Any] | None, str]] = [
    ("internvl", {"rope_type": "default", "rope_theta": 1e6}, "as InternVL3.5"),
    ("internvl", {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e6}, "as InternVL3"),
    ("qwen3_vl", None, "as Qwen3-VL"),
]


def buffers(setting: Setting) -> Iterator[Line]:
    """Every buffer under zero.Init against plain loading: values, type and device."""
    be_the_only_rank(setting.device)
    for number, (kind, rope, described) in enumerate(ROPES):
        size = setting.sizes.small[kind]
        model = random_model(kind, size, setting.folder / f"buffers-{number}", setting.device, rope=rope)
        yield _one(setting, f"buffers of {kind}, rope {described}", str(model))
        free_memory(setting.device)


def _one(setting: Setting, name: str, model: str) -> Line:
    from transformers import AutoModelForImageTextToText

    with gpu_precision():
        sharded = dict(
            zero.load_sharded(model, LearnerConfig(ranks=1), setting.device, False).named_buffers()
        )
    plain = dict(AutoModelForImageTextToText.from_pretrained(model, dtype=torch.bfloat16).named_buffers())
    missing = sorted(plain.keys() ^ sharded.keys())
    wrong = [
        f"{n} ({b.dtype} on {b.device}, off by {float((b.float().cpu() - plain[n].float()).abs().max()):.1e})"
        for n, b in sharded.items()
        if n in plain
        and not (
            b.dtype == plain[n].dtype and b.device.type == setting.device and torch.equal(b.cpu(), plain[n])
        )
    ]
    return check(
        bool(plain) and not missing and not wrong,
        name,
        f"{len(plain)} buffers, {len(wrong)} differ from plain loading"
        + "".join(f"; {w}" for w in wrong[:2]),
        differing=wrong,
    )
