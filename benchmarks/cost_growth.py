"""Seconds of a step by G, frames, videos and ranks: `python -m benchmarks.cost_growth --json growth.json`.

The real fleet, reward pool, learner and weight sync, driven step by step on the demo's base: sample the
groups of one cohort, score them, update, push the weights. Frames are random and decoded already. One size
changes at a time; `growth` divides seconds, and tokens of the learner, by those of the smallest.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import ray

from benchmarks.machine import describe_machine, write_figures
from benchmarks.sleeping import job_on
from benchmarks.small_model import random_frames
from cluster.config import load_config
from cluster.run_actors import RunActors
from data.records import Group, SamplingRequest, VideoRef
from data.seeds import completion_seed
from learner.records import TrainSample
from rewards.cohort import CohortTexts

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "demo" / "tiny-internvl"
FRAME_PX = 96
COMPLETION_TOKENS = 32
PHASES = ("sampling", "rewards", "update", "weights")

Axis = Literal["completions", "frames", "videos"]


@dataclass(frozen=True, slots=True)
class Size:
    """What one step works on; `completions` are those of each video (G)."""

    completions: int = 8
    frames: int = 4
    videos: int = 8


SWEEPS: dict[Axis, tuple[int, ...]] = {
    "completions": (4, 8, 16),
    "frames": (4, 8, 16),
    "videos": (4, 8, 16),
}


@dataclass(frozen=True, slots=True)
class Step:
    """Seconds of each phase; tokens that the learner's text model works on, and those sampled."""

    seconds: dict[str, float]
    learner_tokens: int
    sampled_tokens: int

    @property
    def step_s(self) -> float:
        return sum(self.seconds.values())


def sizes(sweeps: dict[Axis, tuple[int, ...]] = SWEEPS) -> list[Size]:
    """Every size of the sweeps once."""
    found = [replace(Size(), **{axis: value}) for axis, values in sweeps.items() for value in values]
    return list(dict.fromkeys(found))


def sweep_rows(ranks: int, axis: Axis, steps: Mapping[Size, Sequence[Step]]) -> list[dict[str, Any]]:
    """A row for each size along `axis`, medians over turns."""
    rows = []
    first: dict[str, float] = {}
    for value in SWEEPS[axis]:
        turns = steps[replace(Size(), **{axis: value})]
        seconds = {phase: median(turn.seconds[phase] for turn in turns) for phase in PHASES}
        figures = {
            "step": median(turn.step_s for turn in turns),
            "sampling": seconds["sampling"],
            "update": seconds["update"],
            "learner work": median(turn.learner_tokens for turn in turns),
        }
        first = first or figures
        rows.append(
            {"ranks": ranks, "changed": axis, "to": value}
            | {f"{phase} s": seconds[phase] for phase in PHASES}
            | {"step s": figures["step"]}
            | {f"{name} growth": figures[name] / first[name] for name in figures}
        )
    return rows


class HandDriven:
    """Steps of a run without its controller."""

    def __init__(self, ranks: int) -> None:
        config = load_config(
            ROOT / "configs" / "demo.toml",
            [
                f"--model.path={MODEL}",
                f"--learner.ranks={ranks}",
                "--learner.lr=1e-7",
                "--rewards.temporal_weight=0",
                f"--data.frames_per_video={max(SWEEPS['frames'])}",
                f"--rollout.max_completion_tokens={COMPLETION_TOKENS}",
                "--rollout.max_model_tokens=1024",
            ],
        )
        self._config = config
        self._workers = RunActors(job_on(config, 64), lambda *_: None, lambda *_: None)
        self._version = 0

    async def start(self) -> None:
        await self._workers.start(None)

    async def close(self) -> None:
        await self._workers.close()

    async def step(self, size: Size, turn: int) -> Step:
        """One step on videos that no engine has seen."""
        seconds: dict[str, float] = {}

        @contextmanager
        def timed(phase: str) -> Iterator[None]:
            began_s = time.perf_counter()
            yield
            seconds[phase] = time.perf_counter() - began_s

        frames = [ray.put(random_frames(size.frames, _rng(turn, v), FRAME_PX)) for v in range(size.videos)]
        with timed("sampling"):
            groups = await asyncio.gather(
                *(self._sample(self._request(size, turn, v), frames[v]) for v in range(size.videos))
            )
        with timed("rewards"):
            await self._workers.rewards.score(_cohort(groups))
        with timed("update"):
            # Random advantages: with those of the rewards a group now and then has none, and drops out.
            advantages = [
                _rng(turn, v).standard_normal(size.completions).tolist() for v in range(size.videos)
            ]
            samples = [TrainSample(g, f, a) for g, f, a in zip(groups, frames, advantages, strict=True)]
            await self._workers.learner.update(samples)
        with timed("weights"):
            await self._workers.sync.push()
        return Step(
            seconds,
            learner_tokens=sum(len(g.prompt_token_ids) + g.n_tokens for g in groups),
            sampled_tokens=sum(g.n_tokens for g in groups),
        )

    async def _sample(self, request: SamplingRequest, frames: ray.ObjectRef) -> Group:
        cost_tokens = len(request.seeds) * request.max_tokens
        (group,) = await self._workers.fleet.sample([request], frames, cost_tokens)
        return group

    def _request(self, size: Size, turn: int, video: int) -> SamplingRequest:
        name = f"v{video}"
        seeds = tuple(
            completion_seed(0, turn, video, name, "clean", 0, sample) for sample in range(size.completions)
        )
        ref = VideoRef(name, f"/{name}.mp4", size.frames)
        return SamplingRequest(ref, seeds, temperature=1.0, max_tokens=COMPLETION_TOKENS)


async def measure(ranks: int, turns: int) -> dict[Size, list[Step]]:
    """Steps of every size, the sizes in turns; a first step of each, uncounted, warms up."""
    run = HandDriven(ranks)
    steps: dict[Size, list[Step]] = {size: [] for size in sizes()}
    try:
        await run.start()
        for turn in range(1 + turns):
            for number, size in enumerate(steps):
                step = await run.step(size, turn * len(steps) + number)
                print(f"{ranks} ranks, {size}: {step}", flush=True)
                if turn:
                    steps[size].append(step)
    finally:
        await run.close()
    return steps


def _rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def _cohort(groups: Sequence[Group]) -> CohortTexts:
    return CohortTexts(
        mos=[1 + number % 5 for number in range(len(groups))],
        label_sets=["set"] * len(groups),
        rank_only=[False] * len(groups),
        clean=[[c.text for c in group.completions] for group in groups],
        perturbed=[None] * len(groups),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=3, help="counted steps of each size")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"machine": describe_machine(), "growth": []}
    # Ray has its workers stand back behind the machine's other work, unlike this process.
    os.environ.update(RAY_worker_niceness="0")
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, object_store_memory=400 * 2**20)
    try:
        for ranks in arguments.ranks:
            steps = asyncio.run(measure(ranks, arguments.turns))
            for axis in SWEEPS:
                figures["growth"] += sweep_rows(ranks, axis, steps)
    finally:
        ray.shutdown()
    write_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
