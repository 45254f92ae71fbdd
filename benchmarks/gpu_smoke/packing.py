"""Packed and unpacked in the learner's precision: both as far from float32, log-probs and gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu_smoke.learner_side import TEMPERATURE, free_memory, trainer
from benchmarks.gpu_smoke.models import random_shard
from benchmarks.gpu_smoke.report import Line, check
from benchmarks.gpu_smoke.sizes import Device, Kind, Setting
from benchmarks.gpu_smoke.updates import LEARNING, small_model
from data.prompt import sampleable_token_ids
from data.records import Group
from learner.inputs import GroupEncoder

MOST_OFF = 0.05
"""Mean difference of a log-prob from float32 that bfloat16 may make in a model of 24 layers."""
RATIO = 1.2
NORM_RATIO = 1.02


def packing(setting: Setting) -> Iterator[Line]:
    for kind in setting.sizes.small:
        yield from _one(setting, kind)


def _one(setting: Setting, kind: Kind) -> Iterator[Line]:
    model = small_model(setting, kind)
    shard, frames = random_shard(model, setting.sizes.small[kind], setting.sizes.update)
    logprobs, norms = {}, {}
    for layout in ("group", "none"):
        with trainer(setting, model, packing=layout, **LEARNING) as made:
            found = made.logprobs(shard, frames)
            logprobs[layout] = np.array([value for rows in found for row in rows for value in row])
            norms[layout] = made.update(shard, frames, 0)["learner/grad_norm"]
    exact = np.concatenate(
        [
            float32_logprobs(model, group, f, setting.device)
            for group, f in zip(shard.groups, frames, strict=True)
        ]
    )
    free_memory(setting.device)
    packed, unpacked = (float(np.abs(logprobs[layout] - exact).mean()) for layout in ("group", "none"))
    apart = float(np.abs(logprobs["group"] - logprobs["none"]).mean())
    yield check(
        packed < MOST_OFF and packed < RATIO * unpacked + 1e-5,
        f"packed log-probs, {kind}",
        f"off float32 by {packed:.1e} on average, unpacked by {unpacked:.1e}, from one another {apart:.1e}",
        packed=packed,
        unpacked=unpacked,
        apart=apart,
    )
    ratio = norms["group"] / norms["none"]
    yield check(
        1 / NORM_RATIO < ratio < NORM_RATIO,
        f"packed gradient, {kind}",
        f"norm {norms['group']:.5g}, unpacked {norms['none']:.5g}",
        ratio=ratio,
    )


def float32_logprobs(model_path: Path, group: Group, frames: np.ndarray, device: Device) -> np.ndarray:
    """Log-probs of a group's answers by transformers alone, in float32, one answer at a time."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(model_path)
    model = AutoModelForImageTextToText.from_pretrained(model_path, dtype=torch.float32).to(device).eval()
    images = GroupEncoder(processor).encode(group, frames).images
    sampleable = torch.tensor(sampleable_token_ids(processor))
    rows = [
        _answer_logprobs(model, images, group.prompt_token_ids, completion.token_ids, sampleable, device)
        for completion in group.completions
    ]
    return torch.cat(rows).numpy()


@torch.no_grad()
def _answer_logprobs(
    model: Any,
    images: dict[str, Tensor],
    prompt: Sequence[int],
    answer: Sequence[int],
    sampleable: Tensor,
    device: Device,
) -> Tensor:
    ids = torch.tensor([[*prompt, *answer]], device=device)
    inputs = {name: tensor.to(device) for name, tensor in images.items()}
    if "image_grid_thw" in inputs:
        inputs["mm_token_type_ids"] = (ids == model.config.image_token_id).int()
    inputs |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    logits = model(**inputs).logits[0, len(prompt) - 1 : -1]
    barred = torch.ones(logits.shape[-1], dtype=torch.bool, device=device)
    barred[sampleable.to(device)] = False
    logprobs = (logits / TEMPERATURE).masked_fill(barred, -torch.inf).log_softmax(-1)
    return logprobs.gather(-1, ids[0, len(prompt) :, None])[:, 0].cpu()
