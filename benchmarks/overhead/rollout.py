"""The rollout fleet against a bare `vllm.LLM.generate` with the same prompts and the same seed each request.

Two actors hold the same model under the same engine arguments and take turns on the same new frames. The bare
one has all prompts and parameters built before its clock starts; the fleet's clock runs from the
requests to the finished groups, through Ray.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import ray

from benchmarks.small_model import random_frames
from data.records import Group, SamplingRequest, VideoRef
from data.seeds import completion_seed
from rollout.config import RolloutConfig
from rollout.environment import engine_environment
from rollout.fleet import RolloutFleet
from runtime.calls import within

TIMEOUT_S = 3600.0
KV_BLOCK_TOKENS = 32
"""Of vLLM on CPUs, as our engines ask for it."""


@dataclass(frozen=True, slots=True)
class Size:
    """What one turn samples."""

    model: Path
    videos: int
    completions: int
    completion_tokens: int
    n_frames: int
    frame_px: int
    max_model_tokens: int

    def config(self) -> RolloutConfig:
        return RolloutConfig(
            replicas=1,
            max_completion_tokens=self.completion_tokens,
            max_model_tokens=self.max_model_tokens,
        )


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of one side: tokens sampled, seconds by the clock, seconds of a processor; of ours also the
    share of prompt tokens that came from the prefix cache, and the least that it should be."""

    tokens: int
    clock_s: float
    processor_s: float
    cached_share: float = math.nan
    least_cached_share: float = math.nan


class BareEngine:
    """`vllm.LLM` with the arguments of our engine."""

    def __init__(self, size: Size) -> None:
        from transformers import AutoProcessor
        from vllm import LLM

        from data.prompt import prompt_text
        from rollout.engine_arguments import EngineSettings
        from rollout.engines import make_engine

        settings = EngineSettings(str(size.model), size.n_frames, size.config(), seed=0)
        self._llm = LLM(**make_engine(settings).arguments)
        self._text = prompt_text(AutoProcessor.from_pretrained(size.model), size.n_frames)

    def generate(self, requests: Sequence[SamplingRequest], frames: Sequence[np.ndarray]) -> Turn:
        from PIL import Image
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        prompts, params = [], []
        for request, video in zip(requests, frames, strict=True):
            prompt = {
                "prompt": self._text,
                "multi_modal_data": {"image": [Image.fromarray(frame) for frame in video]},
            }
            for seed in request.seeds:
                prompts.append(prompt)
                params.append(
                    SamplingParams(
                        temperature=request.temperature,
                        max_tokens=request.max_tokens,
                        seed=seed,
                        logprobs=0,
                        detokenize=False,
                        output_kind=RequestOutputKind.FINAL_ONLY,
                    )
                )
        began_s, began_processor_s = time.perf_counter(), time.process_time()
        outputs = self._llm.generate(prompts, params, use_tqdm=False)
        clock_s, processor_s = time.perf_counter() - began_s, time.process_time() - began_processor_s
        return Turn(sum(len(o.outputs[0].token_ids) for o in outputs), clock_s, processor_s)


class FleetSide:
    """The fleet's one worker, driven as the controller drives it."""

    def __init__(self, fleet: RolloutFleet) -> None:
        self._fleet = fleet
        (info,) = fleet.infos
        self._worker = psutil.Process(info.pid)

    async def generate(self, requests: Sequence[SamplingRequest], frames: Sequence[np.ndarray]) -> Turn:
        held = [ray.put(video) for video in frames]
        began_s, began_processor_s = time.perf_counter(), self._processor_s()
        groups: list[list[Group]] = await asyncio.gather(
            *(
                self._fleet.sample([request], video, len(request.seeds) * request.max_tokens)
                for request, video in zip(requests, held, strict=True)
            )
        )
        clock_s, processor_s = time.perf_counter() - began_s, self._processor_s() - began_processor_s
        flat = [group for (group,) in groups]
        prompts = sum(len(g.prompt_token_ids) * len(g.completions) for g in flat)
        return Turn(
            sum(g.n_tokens for g in flat),
            clock_s,
            processor_s,
            sum(g.cached_prompt_tokens for g in flat) / prompts,
            sum(_least_cached_tokens(g) for g in flat) / prompts,
        )

    def _processor_s(self) -> float:
        """Of the worker and of this process, which routes."""
        times = self._worker.cpu_times()
        return time.process_time() + float(times.user + times.system)


def _least_cached_tokens(group: Group) -> int:
    """The whole blocks of the prompt, for all completions but the first. The prompt's last token is always
    computed."""
    blocks = (len(group.prompt_token_ids) - 1) // KV_BLOCK_TOKENS
    return (len(group.completions) - 1) * blocks * KV_BLOCK_TOKENS


async def compare(size: Size, repeats: int) -> dict[str, Any]:
    """Median tokens a second of both sides, and the medians of ours over bare. Needs a Ray session with two
    free cores."""
    environment = engine_environment(size.config(), model_is_local=True)
    actor: Any = ray.remote(BareEngine)
    bare = actor.options(num_cpus=1, runtime_env={"env_vars": environment}).remote(size)
    fleet = RolloutFleet(size.config(), str(size.model), size.n_frames, seed=0)
    turns: list[tuple[Turn, Turn]] = []
    try:
        await fleet.start(1)
        ours = FleetSide(fleet)
        for number in range(1 + repeats):
            requests, frames = _work(size, number)
            theirs = await within(bare.generate.remote(requests, frames), TIMEOUT_S, "the bare engine's turn")
            turns.append((theirs, await ours.generate(requests, frames)))
    finally:
        await fleet.close()
        ray.kill(bare)
    return row(size, turns[1:])


def row(size: Size, turns: Sequence[tuple[Turn, Turn]]) -> dict[str, Any]:
    """`turns` are pairs of (bare, ours). Ratios compare tokens a second, and tokens a processor's second."""
    return {
        "videos x G x tokens": f"{size.videos} x {size.completions} x {size.completion_tokens}",
        "frames": size.n_frames,
        "bare tokens/s": median(t.tokens / t.clock_s for t, _ in turns),
        "ours tokens/s": median(t.tokens / t.clock_s for _, t in turns),
        "ratio": median((b.tokens / b.clock_s) / (a.tokens / a.clock_s) for a, b in turns),
        "processor ratio": median((b.tokens / b.processor_s) / (a.tokens / a.processor_s) for a, b in turns),
        "cached prompt share": median(ours.cached_share for _, ours in turns),
        "at least": median(ours.least_cached_share for _, ours in turns),
        "turns": len(turns),
    }


def _work(size: Size, turn: int) -> tuple[list[SamplingRequest], list[np.ndarray]]:
    """Requests for videos that no engine has seen."""
    rng = np.random.default_rng(turn)
    requests = [
        SamplingRequest(
            VideoRef(f"turn{turn}-{video}", "/none.mp4", size.n_frames),
            tuple(
                completion_seed(0, turn, video, f"v{video}", "clean", 0, sample)
                for sample in range(size.completions)
            ),
            temperature=1.0,
            max_tokens=size.completion_tokens,
        )
        for video in range(size.videos)
    ]
    return requests, [random_frames(size.n_frames, rng, size.frame_px) for _ in requests]
