"""Scoring's throughput against that of the bare engine: `python -m benchmarks.scoring --json scoring.json`.

Both sides hold the same model under the same settings, on one thread, in a process of their own, and take
turns: the bare side calls `vllm.LLM.generate` once, with all prompts built and all frames decoded beforehand;
ours starts from the files. A turn of each side goes first, uncounted. There are more clips than the engines'
caches hold, so that none is found there in the next turn.
"""

import argparse
import asyncio
import statistics
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import ray

from benchmarks.machine import describe_machine, write_figures
from data.frames import read_frames
from data.manifest import read_manifest
from data.records import VideoRef
from evaluation.models import resolve_checkpoint, scoring_settings
from evaluation.scorer import Scorer
from evaluation.settings import ScoringSettings
from rollout.environment import engine_environment
from runtime.session import ray_session

CLIPS = Path(__file__).resolve().parent.parent / "demo" / "built" / "manifest.csv"


class BareEngine:
    """`vllm.LLM` with the arguments of our engine, and prompts that it holds already."""

    def __init__(self, settings: ScoringSettings, refs: list[VideoRef]) -> None:
        from PIL import Image
        from transformers import AutoProcessor
        from vllm import LLM, SamplingParams

        from data.prompt import prompt_text
        from rollout.engine_arguments import EngineSettings
        from rollout.engines import make_engine

        engine = EngineSettings(
            settings.checkpoint,
            settings.frames_per_video,
            settings.rollout(1, 0),
            settings.seed,
            frame_tokens=settings.frame_tokens,
        )
        self._llm = LLM(**make_engine(engine).arguments)
        text = prompt_text(AutoProcessor.from_pretrained(settings.checkpoint), settings.frames_per_video)
        frames = {
            path: [
                Image.fromarray(f)
                for f in read_frames(path, settings.frames_per_video, settings.max_frame_px)
            ]
            for path in {ref.path for ref in refs}
        }
        self._prompts: list[Any] = [
            {"prompt": text, "multi_modal_data": {"image": frames[ref.path]}} for ref in refs
        ]
        self._params = SamplingParams(
            temperature=0.0, max_tokens=settings.max_completion_tokens, logprobs=0, detokenize=False
        )

    def generate(self) -> float:
        """Seconds of one call."""
        started = time.perf_counter()
        outputs = self._llm.generate(self._prompts, self._params, use_tqdm=False)
        seconds = time.perf_counter() - started
        assert len(outputs) == len(self._prompts)
        return seconds


async def turns(settings: ScoringSettings, refs: list[VideoRef], repeats: int) -> list[tuple[float, float]]:
    """(seconds of the bare engine, seconds of ours) for each counted pair of turns."""
    actor: Any = ray.remote(BareEngine)
    environment = engine_environment(settings.rollout(1, 0), model_is_local=True)
    bare = actor.options(num_cpus=1, runtime_env={"env_vars": environment}).remote(settings, refs)
    async with Scorer(settings) as scorer:

        async def ours() -> float:
            started = time.perf_counter()
            failures = [s.failure async for s in scorer.score(refs) if s.failure]
            assert not failures, failures[:3]
            return time.perf_counter() - started

        return [(await bare.generate.remote(), await ours()) for _ in range(1 + repeats)][1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=2000, help="clips of the demo set, repeated")
    parser.add_argument("--repeats", type=int, default=3, help="counted turns of each side")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()

    settings = scoring_settings(resolve_checkpoint("demo/tiny-internvl"))
    clips = islice(cycle(read_manifest(CLIPS)), arguments.videos)
    refs = [VideoRef(f"{number}", clip.path, settings.frames_per_video) for number, clip in enumerate(clips)]
    with ray_session(settings.cluster, 1 + settings.cpus(1)):
        pairs = asyncio.run(turns(settings, refs, arguments.repeats))
    ratios = [bare_s / ours_s for bare_s, ours_s in pairs]
    figures = {
        "videos": len(refs),
        "bare_videos_per_s": [round(len(refs) / bare_s, 2) for bare_s, _ in pairs],
        "ours_videos_per_s": [round(len(refs) / ours_s, 2) for _, ours_s in pairs],
        "ratios": [round(ratio, 3) for ratio in ratios],
        "ratio": round(statistics.median(ratios), 3),
    }
    write_figures({"machine": describe_machine()} | figures, arguments.json)


if __name__ == "__main__":
    main()
