"""Whole updates of models of about 1B parameters: forward, backward and optimizer under ZeRO-3."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.gpu_smoke.learner_side import (
    forget_peak,
    free_memory,
    largest_change,
    peak_gb,
    policy_weights,
    synchronized_s,
    trainer,
)
from benchmarks.gpu_smoke.models import random_model, random_shard
from benchmarks.gpu_smoke.report import Line, check
from benchmarks.gpu_smoke.sizes import Kind, Setting
from learner.trainer import Trainer

UPDATES = 4
LORA = {"rank": 16, "alpha": 32.0}
LEARNING = {"lr": 1e-4, "kl_coefficient": 0.04}
"""A rate at which four updates on the same answers visibly raise those with an advantage, in bfloat16 too."""


def updates(setting: Setting) -> Iterator[Line]:
    """Both families, full and LoRA: finite, applied, and answers with an advantage become more likely."""
    for kind in setting.sizes.small:
        for mode, settings in (("full", LEARNING), ("LoRA", LEARNING | {"lora": LORA})):
            yield _learns(setting, kind, mode, settings)


def small_model(setting: Setting, kind: Kind) -> Path:
    return random_model(kind, setting.sizes.small[kind], setting.folder / f"small-{kind}", setting.device)


def _learns(setting: Setting, kind: Kind, mode: str, settings: dict[str, Any]) -> Line:
    model = small_model(setting, kind)
    shard, frames = random_shard(model, setting.sizes.small[kind], setting.sizes.update)
    forget_peak(setting.device)
    with trainer(setting, model, **settings) as made:
        trainable, frozen = made.parameter_counts()
        before = made.logprobs(shard, frames)
        metrics = []
        seconds = 0.0
        for version in range(UPDATES):
            started_s = synchronized_s(setting.device)
            metrics.append(made.update(shard, frames, version))
            seconds = synchronized_s(setting.device) - started_s
        after = made.logprobs(shard, frames)
        layout = made.layout
    gain = sum(
        advantage * (math.fsum(new) - math.fsum(old)) / len(old)
        for row, olds, news in zip(shard.advantages, before, after, strict=True)
        for advantage, old, new in zip(row, olds, news, strict=True)
    )
    finite = all(math.isfinite(value) for found in metrics for value in found.values())
    applied = not any(found["learner/skipped"] for found in metrics)
    return check(
        finite and applied and layout == "packed" and gain > 0,
        f"update, {kind}, {mode}",
        f"{trainable / 1e6:.0f} M of {(trainable + frozen) / 1e6:.0f} M parameters, layout {layout}, "
        f"gradient norm {metrics[-1]['learner/grad_norm']:.3g}, advantage-weighted log-prob "
        f"{gain:+.3g} after {UPDATES} updates, {seconds:.2f} s an update, "
        f"{shard.tokens / seconds:.0f} answer tokens/s, peak {peak_gb(setting.device):.1f} GB",
        s=seconds,
        gain=gain,
        grad_norm=[found["learner/grad_norm"] for found in metrics],
        peak_gb=peak_gb(setting.device),
        trainable=trainable,
    )


def faults(setting: Setting) -> Iterator[Line]:
    """An update with an inf in it changes nothing; a checkpoint gives back all that was saved."""
    model = small_model(setting, "internvl")
    shard, frames = random_shard(model, setting.sizes.small["internvl"], setting.sizes.update)
    with trainer(setting, model, **LEARNING) as made:
        made.update(shard, frames, 0)
        yield from _skips_inf(made, shard, frames)
        yield from _round_trip(setting, made, shard, frames)
    free_memory(setting.device)


def _skips_inf(made: Trainer, shard: Any, frames: Any) -> Iterator[Line]:
    poisoned = replace(shard, advantages=[[math.inf, *row[1:]] for row in shard.advantages])
    before = policy_weights(made)
    metrics = made.update(poisoned, frames, 1)
    change = largest_change(before, policy_weights(made))
    yield check(
        metrics["learner/skipped"] == 1.0 and change == 0.0,
        "an injected inf skips the step",
        f"skipped {metrics['learner/skipped']:.0f}, weights changed by {change:g}",
        change=change,
    )
    metrics = made.update(shard, frames, 2)
    change = largest_change(before, policy_weights(made))
    yield check(
        metrics["learner/skipped"] == 0.0 and 0 < change < math.inf,
        "the update after it",
        f"skipped {metrics['learner/skipped']:.0f}, weights changed by at most {change:.2g}",
        change=change,
    )


def _round_trip(setting: Setting, made: Trainer, shard: Any, frames: Any) -> Iterator[Line]:
    """Save, train on, load, save again: both files hold the same."""
    first, second = setting.folder / "checkpoint-1", setting.folder / "checkpoint-2"
    started_s = synchronized_s(setting.device)
    made.save(first, {"version": 3})
    saved_s = synchronized_s(setting.device) - started_s
    held = policy_weights(made)
    made.update(shard, frames, 3)
    moved = largest_change(held, policy_weights(made))
    started_s = synchronized_s(setting.device)
    extra = made.load(first)
    loaded_s = synchronized_s(setting.device) - started_s
    back = largest_change(held, policy_weights(made))
    made.save(second, extra)
    differing = _differing_tensors(first, second)
    size_gb = sum(file.stat().st_size for file in first.iterdir()) / 1e9
    yield check(
        moved > 0 and back == 0 and not differing and extra == {"version": 3},
        "checkpoint round trip",
        f"{size_gb:.2f} GB saved in {saved_s:.1f} s, loaded in {loaded_s:.1f} s; weights off by {back:g} "
        f"(by {moved:.2g} before loading), {len(differing)} tensors differ",
        save_s=saved_s,
        load_s=loaded_s,
        gb=size_gb,
    )


def _differing_tensors(first: Path, second: Path) -> list[str]:
    names = []
    for file in sorted(first.glob("*.safetensors")):
        ours, theirs = load_file(file), load_file(second / file.name)
        names += [name for name in ours if not torch.equal(ours[name], theirs[name])]
    return names
