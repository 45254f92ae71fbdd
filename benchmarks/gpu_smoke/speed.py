"""What an update costs at the widths of an 8B model: tokens a second, use of the GPU, phases.

Model FLOPs utilisation (MFU) is what the model has to compute in a second over the peak of the data sheet. It
has to compute a forward pass, a backward pass of two, and the reference's forward pass, of which
`cluster.planning.flops` has the formula. What gradient checkpointing computes again is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.gpu_smoke.data_sheet import peak_tflops
from benchmarks.gpu_smoke.learner_side import (
    BUCKET_BYTES,
    forget_peak,
    free_memory,
    peak_gb,
    synchronized_s,
    trainer,
)
from benchmarks.gpu_smoke.memory import Fitted, fitting_model, free_gb
from benchmarks.gpu_smoke.models import random_shard, with_layers
from benchmarks.gpu_smoke.report import Line, check, skip
from benchmarks.gpu_smoke.sizes import Setting, UpdateSize
from cluster.planning.architecture import read_architecture
from cluster.planning.flops import Passes, forward_flop, update_flop
from cluster.planning.flops import Sizes as GroupSizes
from data.tensor_bytes import bucket_of
from learner.host_copy import HostCopy
from learner.trainer import Trainer
from learner.weights import gather_buckets

MATMULS = 10
MODEL_PASSES = Passes(text=4, vision=4)
"""Forward, backward of two, and the reference's forward."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one update, medians. `optimizer_s` is the step alone, after the GPU has done the backward passes."""

    s: float
    optimizer_s: float
    answer_tokens_per_s: float
    text_positions_per_s: float
    tflops: float
    peak_gb: float


def speed(setting: Setting) -> Iterator[Line]:
    fitted = fitting_model(setting)
    if fitted is None:
        yield skip("speed", f"{free_gb(setting):.0f} GB are free, too few for a model of 1B parameters")
        return
    reached = _matmul_tflops(setting)
    listed = peak_tflops(torch.cuda.get_device_name()) if setting.device == "cuda" else None
    yield check(
        reached > 0,
        "matrix product, bfloat16",
        f"{reached:.3g} TFLOP/s of {f'{listed:.0f}' if listed else 'unknown'} by the data sheet",
        tflops=reached,
        data_sheet=listed,
    )
    peak = listed or reached
    base = setting.sizes.speed
    with trainer(setting, fitted.path, packing="group") as made:
        yield _row(setting, made, fitted, base, fitted.path, "packed", peak)
        yield from _moving(setting, made)
        for what, updates in setting.sizes.varied.items():
            for update in updates:
                yield _row(setting, made, fitted, update, fitted.path, f"packed, {what} varied", peak)
    with trainer(setting, fitted.path, packing="none") as made:
        yield _row(setting, made, fitted, base, fitted.path, "unpacked", peak)
    layers = read_architecture(str(fitted.path)).text.layers
    if layers > 1:
        fewer = with_layers(fitted.path, layers // 2, setting.folder / "half")
        with trainer(setting, fewer, packing="group") as made:
            yield _row(setting, made, fitted, base, fewer, "packed, layers varied", peak)


def _row(
    setting: Setting,
    made: Trainer,
    fitted: Fitted,
    update: UpdateSize,
    path: Path,
    what: str,
    peak: float,
) -> Line:
    model = read_architecture(str(path))
    shard, frames = random_shard(path, fitted.size, update)
    prompt = len(shard.groups[0].prompt_token_ids)
    layout = "packed" if made.layout == "packed" else "answer by answer"
    group = GroupSizes(update.frames, fitted.size.frame_px, prompt, update.completions, update.answer_tokens)
    flops = update_flop(forward_flop(model, group, layout), MODEL_PASSES, update.videos)
    prompts = 1 if layout == "packed" else update.completions
    positions = update.videos * (prompts * prompt + update.completions * update.answer_tokens)
    try:
        cost = _measure(setting, made, shard, frames, flops, positions)
    except torch.OutOfMemoryError as error:
        free_memory(setting.device)
        return check(False, f"update, {what}", f"out of memory: {str(error)[:120]}")
    shape = (
        f"G {update.completions}, prompt {prompt}, answers {update.answer_tokens}, "
        f"{model.text.layers} layers, {model.parameters / 1e9:.2f}B"
    )
    return check(
        cost.s > 0,
        f"update, {what}",
        f"{shape}: {cost.s:.3f} s, {cost.answer_tokens_per_s:.0f} answer tokens/s and "
        f"{cost.text_positions_per_s:.0f} text positions/s per GPU, {cost.tflops:.3g} TFLOP/s, MFU "
        f"{cost.tflops / peak:.1%}, optimizer {cost.optimizer_s:.3f} s, peak {cost.peak_gb:.1f} GB",
        **asdict(cost),
        mfu=cost.tflops / peak,
        layout=made.layout,
        prompt_tokens=prompt,
        layers=model.text.layers,
        parameters=model.parameters,
        **asdict(update),
    )


def _measure(setting: Setting, made: Trainer, shard: Any, frames: Any, flops: float, positions: int) -> Cost:
    """Medians over the timed updates, after one that warms up."""
    seconds: list[float] = []
    steps: list[float] = []
    step, made.engine.step = made.engine.step, _timed(setting, made.engine.step, steps)
    try:
        made.update(shard, frames, 0)
        forget_peak(setting.device)
        steps.clear()
        for version in range(1, 1 + setting.sizes.timed_updates):
            started_s = synchronized_s(setting.device)
            made.update(shard, frames, version)
            seconds.append(synchronized_s(setting.device) - started_s)
    finally:
        made.engine.step = step
    s = median(seconds)
    return Cost(s, median(steps), shard.tokens / s, positions / s, flops / s / 1e12, peak_gb(setting.device))


def _timed(setting: Setting, call: Callable[[], Any], seconds: list[float]) -> Callable[[], Any]:
    def timed() -> Any:
        started_s = synchronized_s(setting.device)
        result = call()
        seconds.append(synchronized_s(setting.device) - started_s)
        return result

    return timed


def _moving(setting: Setting, made: Trainer) -> Iterator[Line]:
    """Weights out of the learner: gathered on the device, on into host memory for the object store, into the
    pinned memory that a broadcast is sent from, and from there to the device again."""
    moved = [
        ("gather of all weights", lambda bucket: sum(t.nbytes for t in bucket.values())),
        (
            "gather to host memory",
            lambda bucket: sum(held.data.nbytes for held in bucket_of(bucket).values()),
        ),
    ]
    host, device = HostCopy(), torch.device(setting.device)

    def gathered() -> Iterator[dict[str, torch.Tensor]]:
        return gather_buckets(made.engine.module, BUCKET_BYTES)

    def to_pinned() -> int:
        host.take(named for bucket in gathered() for named in bucket.items())
        return host.n_bytes

    calls: list[tuple[str, Callable[[], int]]] = [
        *((name, lambda use=use: sum(use(bucket) for bucket in gathered())) for name, use in moved),
        ("gather to pinned memory, allocating it", to_pinned),
        ("gather to pinned memory again", to_pinned),
        ("pinned memory to the device", lambda: sum(t.nbytes for _, t in host.tensors(device))),
    ]
    for name, call in calls:
        started_s = synchronized_s(setting.device)
        gb = call() / 1e9
        seconds = synchronized_s(setting.device) - started_s
        yield check(
            gb > 0, name, f"{gb:.2f} GB in {seconds:.3f} s, {gb / seconds:.1f} GB/s", s=seconds, gb=gb
        )
    yield skip("broadcast to engines", "needs two GPUs: `make test-gpu` has it (join, push)")


def _matmul_tflops(setting: Setting) -> float:
    edge = setting.sizes.matmul
    a, b = (torch.randn(edge, edge, device=setting.device).bfloat16() for _ in range(2))
    for _ in range(2):
        a @ b
    started_s = synchronized_s(setting.device)
    for _ in range(MATMULS):
        a @ b
    seconds = (synchronized_s(setting.device) - started_s) / MATMULS
    return 2 * edge**3 / seconds / 1e12
