"""vLLM as a rollout worker uses it: against transformers, and with new weights. Skipped without vLLM."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from benchmarks.gpu_smoke.learner_side import free_memory
from benchmarks.gpu_smoke.models import random_frames, random_model
from benchmarks.gpu_smoke.packing import float32_logprobs
from benchmarks.gpu_smoke.report import Line, check, skip
from benchmarks.gpu_smoke.sizes import Device, Kind, Setting
from cluster.planning.architecture import read_architecture
from data.prompt import sampleable_token_ids
from data.records import Group, SamplingRequest, VideoRef
from data.tensor_bytes import Bucket, bucket_of
from learner.inputs import GroupEncoder, PromptMismatch
from rollout.config import RolloutConfig
from rollout.environment import engine_environment

if TYPE_CHECKING:
    from rollout.engine import Engine

T = TypeVar("T")

FRAMES = 2
SEEDS = (1, 2, 3, 4)
DECODING_TURNS = 5
DEADLINE_S = 150.0
MOST_OFF = {"cuda": 0.05, "cpu": 1e-3}
"""Mean difference of a log-prob from transformers' in float32: the engine computes in bfloat16 on a GPU, and
in float32 on the CPU."""


def internvl(setting: Setting) -> Iterator[Line]:
    return _engine(setting, "internvl")


def qwen3_vl(setting: Setting) -> Iterator[Line]:
    return _engine(setting, "qwen3_vl")


def _engine(setting: Setting, kind: Kind) -> Iterator[Line]:
    if importlib.util.find_spec("vllm") is None:
        yield skip(f"engine, {kind}", "vLLM is not installed")
        return
    size = setting.sizes.small[kind]
    model = random_model(kind, size, setting.folder / f"small-{kind}", setting.device)
    config = rollout_config(setting)
    # Read when vLLM is imported.
    os.environ.update(engine_environment(config, model_is_local=True))
    from rollout.engine_arguments import EngineSettings
    from rollout.engines import make_engine

    with asyncio.Runner() as runner:

        def wait(call: Coroutine[Any, Any, T]) -> T:
            return runner.run(_within_deadline(call))

        started_s = time.perf_counter()
        made = make_engine(EngineSettings(str(model), FRAMES, config, seed=0))
        try:
            wait(made.start())
            seconds = time.perf_counter() - started_s
            yield check(
                True, f"engine, {kind}", f"{type(made).__name__} started in {seconds:.0f} s", s=seconds
            )
            yield from _checks(setting, kind, made, wait, model)
        finally:
            wait(made.close())


def rollout_config(setting: Setting) -> RolloutConfig:
    on_gpu = setting.device == "cuda"
    return RolloutConfig(
        gpus_per_replica=1 if on_gpu else 0,
        gpu_memory_utilization=0.4,  # transformers' model in float32 is on the same card
        max_completion_tokens=64 if on_gpu else 12,
        max_model_tokens=4096 if on_gpu else 1024,
        max_concurrent_sequences=16,
        max_batched_tokens=4096,
    )


def _checks(setting: Setting, kind: Kind, made: Engine, wait: Any, model: Path) -> Iterator[Line]:
    from transformers import AutoProcessor

    px = setting.sizes.small[kind].frame_px
    rng = np.random.default_rng(0)
    frames = random_frames(FRAMES, px, rng)
    processor = AutoProcessor.from_pretrained(model)
    sampled: Group = wait(made.generate(_request(made, temperature=1.0), frames))
    greedy: Group = wait(made.generate(_request(made, temperature=0.0), frames))
    yield _masked(kind, processor, sampled, greedy)
    yield _prompts(kind, processor, wait, made, px)
    yield _agrees(f"log-probs, {kind}", model, sampled, frames, setting.device)
    yield _decoding(kind, model, made, wait, frames)
    other = random_model(kind, setting.sizes.small[kind], setting.folder / f"other-{kind}", setting.device, 1)
    started_s = time.perf_counter()
    wait(made.load_weights(1, _buckets(other)))
    seconds = time.perf_counter() - started_s
    again: Group = wait(made.generate(_request(made, temperature=1.0), frames))
    versions = {version for completion in again.completions for version in completion.versions}
    yield check(versions == {1}, f"weights replaced, {kind}", f"versions {versions}, in {seconds:.1f} s")
    yield _agrees(f"log-probs on the new weights, {kind}", other, again, frames, setting.device)
    stale = _off(model, again, frames, setting.device)
    yield check(
        stale > 10 * MOST_OFF[setting.device],
        f"the new weights are others, {kind}",
        f"off the old ones by {stale:.2g} on average",
    )


def _request(made: Engine, temperature: float, frames: int = FRAMES) -> SamplingRequest:
    ref = VideoRef("v", "/v.mp4", frames)
    return SamplingRequest(ref, SEEDS, temperature, made._settings.rollout.max_completion_tokens)


def _masked(kind: Kind, processor: Any, sampled: Group, greedy: Group) -> Line:
    """Most of the vocabulary may not be sampled here, so that an engine without the mask would at once."""
    allowed = set(sampleable_token_ids(processor))
    completions = [*sampled.completions, *greedy.completions]
    masked = sum(id_ not in allowed for c in completions for id_ in c.token_ids)
    same = len({tuple(c.token_ids) for c in greedy.completions}) == 1
    return check(
        masked == 0 and same,
        f"masked tokens, {kind}",
        f"{masked} of {sum(len(c.token_ids) for c in completions)} sampled, greedily and at temperature 1"
        + ("" if same else "; greedy answers differ"),
    )


def _prompts(kind: Kind, processor: Any, wait: Any, made: Engine, px: int) -> Line:
    """Prompt ids of engine and learner on frames of 16:9, 9:16 and square."""
    encoder = GroupEncoder(processor)
    rng = np.random.default_rng(1)
    counts = []
    for height, width in ((px * 9 // 16, px), (px, px * 9 // 16), (px, px)):
        frames = random_frames(FRAMES, px, rng)[:, :height, :width].copy()
        group: Group = wait(made.generate(_request(made, temperature=1.0), frames))
        try:
            encoder.encode(group, frames)
        except PromptMismatch as error:
            return check(False, f"prompt ids, {kind}", f"{width}x{height}: {error}")
        counts.append(len(group.prompt_token_ids))
    return check(True, f"prompt ids, {kind}", f"equal to the learner's: {counts} tokens on 16:9, 9:16, 1:1")


def _decoding(kind: Kind, model: Path, made: Engine, wait: Any, frames: np.ndarray) -> Line:
    """Seconds of a decoding step with a handful of sequences: a long answer's over a short one's, prompt and
    frames cached for both. `launch.py plan --loop --costs` reads it."""
    name = f"decoding, {kind}"
    request = _request(made, temperature=0.0)
    seconds: dict[int, list[float]] = {}
    for tokens in (request.max_tokens // 4, request.max_tokens) * DECODING_TURNS:
        started_s = time.perf_counter()
        group: Group = wait(made.generate(replace(request, max_tokens=tokens), frames))
        steps = max(len(completion.token_ids) for completion in group.completions)
        seconds.setdefault(steps, []).append(time.perf_counter() - started_s)
    few, many = min(seconds), max(seconds)
    if few == many or (taken_s := median(seconds[many]) - median(seconds[few])) <= 0:
        return skip(name, "answers end too early, or steps are too fast to be told apart")
    step_s = taken_s / (many - few)
    parameters = read_architecture(str(model)).parameters
    figure = f"{1e3 * step_s:.2f} ms a step with {len(SEEDS)} sequences of {parameters / 1e9:.2f}B parameters"
    return check(True, name, figure, step_s=step_s, parameters=parameters, sequences=len(SEEDS))


def _agrees(name: str, model: Path, group: Group, frames: np.ndarray, device: Device) -> Line:
    off = _off(model, group, frames, device)
    return check(
        off < MOST_OFF[device], name, f"off transformers' in float32 by {off:.1e} on average", off=off
    )


def _off(model: Path, group: Group, frames: np.ndarray, device: Device) -> float:
    found = np.array([value for completion in group.completions for value in completion.logprobs])
    expected = float32_logprobs(model, group, frames, device)
    free_memory(device)
    return float(np.abs(found - expected).mean())


async def _buckets(model: Path) -> AsyncIterator[Bucket]:
    """The weights of a model folder as the object store holds them, one bucket a weight."""
    import torch
    from transformers import AutoModelForImageTextToText

    loaded = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.bfloat16)
    for name, parameter in loaded.named_parameters():
        yield bucket_of({name: parameter.detach()})


async def _within_deadline(call: Coroutine[Any, Any, T]) -> T:
    async with asyncio.timeout(DEADLINE_S):
        return await call
