"""The peak of memory of an update, against what `launch.py plan --memory` says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_smoke.learner_side import SETTINGS, forget_peak, peak_gb, trainer
from benchmarks.gpu_smoke.models import random_model, random_shard, with_layers
from benchmarks.gpu_smoke.report import Line, check, skip
from benchmarks.gpu_smoke.sizes import ModelSize, Setting, UpdateSize
from cluster.config import RunConfig
from cluster.planning.architecture import read_architecture
from cluster.planning.memory import LearnerBudget, learner_budget

FRAMES = 6
COMPLETIONS = 4
ANSWER_TOKENS = 40
"""Short ones, so that a micro-batch holds as many prompts and frames as the plan counts."""
UPDATES = 2
LOOSEST = 1.5
"""The plan takes everything at its largest: it may exceed what is measured by this factor."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model that fits the card, and what the plan says of it."""

    described: str
    size: ModelSize
    path: Path
    budget: LearnerBudget


def fitting_model(setting: Setting) -> Fitted | None:
    """The wide model in as many layers as fit, else the small one; None if not even that does."""
    sizes = setting.sizes
    room_gb = free_gb(setting)
    wide = random_model("internvl", sizes.wide, setting.folder / "wide", setting.device)
    fewer = setting.folder / "wide-fewer"
    if not fewer.exists():
        with_layers(wide, sizes.fewer_layers, fewer)
    small = setting.folder / "small-internvl"
    random_model("internvl", sizes.small["internvl"], small, setting.device)
    for described, size, path in (
        (f"8B widths, {sizes.wide.layers} layers", sizes.wide, wide),
        (f"8B widths, {sizes.fewer_layers} layers", sizes.wide, fewer),
        ("1B", sizes.small["internvl"], small),
    ):
        found = Fitted(described, size, path, planned(setting, size, path))
        if found.budget.fits(room_gb):
            return found
    return None


def planned(setting: Setting, size: ModelSize, path: Path) -> LearnerBudget:
    """The plan of one rank that trains this model alone."""
    values: dict[str, Any] = {
        "model": {"path": str(path)},
        "data": {"frames_per_video": FRAMES, "max_frame_px": size.frame_px},
        "schedule": {"completions_per_video": COMPLETIONS},
        "rollout": {"gpus_per_replica": 1, "max_completion_tokens": 200},
        "learner": SETTINGS | {"gpus_per_rank": 1, "micro_batch_tokens": setting.sizes.memory_tokens},
    }
    return learner_budget(RunConfig.model_validate(values), read_architecture(str(path)))


def free_gb(setting: Setting) -> float:
    if setting.device == "cpu":
        return 80.0
    return torch.cuda.mem_get_info()[0] / 1e9


def memory(setting: Setting) -> Iterator[Line]:
    fitted = fitting_model(setting)
    name = f"peak memory at {setting.sizes.memory_tokens:,} tokens"
    if fitted is None:
        yield skip(name, f"{free_gb(setting):.0f} GB are free, too few for a model of 1B parameters")
        return
    prompt = len(_shard(fitted, 1)[0].groups[0].prompt_token_ids)
    videos = max(1, setting.sizes.memory_tokens // (prompt + COMPLETIONS * ANSWER_TOKENS))
    shard, frames = _shard(fitted, videos)
    forget_peak(setting.device)
    with trainer(setting, fitted.path, micro_batch_tokens=setting.sizes.memory_tokens) as made:
        for version in range(UPDATES):
            metrics = made.update(shard, frames, version)
        allocator_gb = peak_gb(setting.device)
        context_gb = _context_gb(setting)
    measured_gb, plan_gb = allocator_gb + context_gb, fitted.budget.total_gb
    passes = int(metrics["learner/micro_batches"])
    yield check(
        setting.tiny or measured_gb <= plan_gb <= LOOSEST * measured_gb,
        name,
        f"{fitted.described}: measured {measured_gb:.1f} GB (allocator {allocator_gb:.1f}, context "
        f"{context_gb:.1f}), the plan says {plan_gb:.1f} GB; {videos} groups in {passes} passes",
        measured_gb=measured_gb,
        plan_gb=plan_gb,
        plan={line.name: line.gb for line in [*fitted.budget.held, *fitted.budget.phases]},
    )


def _shard(fitted: Fitted, videos: int) -> Any:
    update = UpdateSize(videos, FRAMES, COMPLETIONS, ANSWER_TOKENS)
    return random_shard(fitted.path, fitted.size, update)


def _context_gb(setting: Setting) -> float:
    """What the card holds beyond the allocator's memory: the context of this process, and other processes."""
    if setting.device == "cpu":
        return 0.0
    free, total = torch.cuda.mem_get_info()
    return (total - free - torch.cuda.memory_reserved()) / 1e9
