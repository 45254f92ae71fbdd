"""What a step costs when engines and learner take no time: the controller, Ray's calls and the rewards.

The real controller, fleet, reward pool and weight sync, over workers that answer at once.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.sleeping import job_on, sleeping_job, sleeping_workers
from cluster.controller import Controller
from cluster.run_actors import RunActors
from monitoring.run_dir import RunDirectory
from rewards.cohort import CohortTexts
from rewards.config import RewardConfig
from rewards.pool import RewardPool

WARM_UP = 2
"""Updates that are not counted: the first videos find an empty fleet."""


def step_ms(videos: int, completions: int, updates: int) -> dict[str, Any]:
    """Median milliseconds of a step in which nothing works. Needs a Ray session."""
    job = sleeping_job(
        videos * updates,
        f"--schedule.videos_per_cohort={videos}",
        f"--schedule.completions_per_video={completions}",
        "--rollout.replicas=2",
        f"--rollout.max_concurrent_sequences={videos * completions}",
    )
    make: Callable[..., RunActors] = sleeping_workers(0.0, 0.0)
    with tempfile.TemporaryDirectory(prefix="overheads-") as folder:
        directory = RunDirectory(Path(folder) / "run")
        directory.create("{}", "")
        asyncio.run(Controller(job_on(job.config, videos * updates), directory, False, make).run())
        steps = list(directory.read_lines("metrics"))[WARM_UP:]
    processor_s = steps[-1]["controller/processor_s"] - steps[0]["controller/processor_s"]
    return {
        "videos x G": f"{videos} x {completions}",
        "step ms": 1000 * median(step["timing/step_s"] for step in steps),
        "controller's processor ms": 1000 * processor_s / (len(steps) - 1),
        "steps": len(steps),
    }


async def reward_ms(videos: int, completions: int, completion_tokens: int, repeats: int) -> dict[str, Any]:
    """Median milliseconds of one cohort, with perturbed copies, in the pool. Needs a Ray session."""
    dice = random.Random(0)

    def answer() -> str:
        words = " ".join("word" for _ in range(completion_tokens))
        return f"<think>{words}</think><answer>{dice.uniform(1, 5):.2f}</answer>"

    def group() -> list[str]:
        return [answer() for _ in range(completions)]

    cohort = CohortTexts(
        mos=[dice.uniform(1, 5) for _ in range(videos)],
        label_sets=["set"] * videos,
        rank_only=[False] * videos,
        clean=[group() for _ in range(videos)],
        perturbed=[group() for _ in range(videos)],
    )
    pool = RewardPool(RewardConfig(actors=1))
    await pool.start()
    try:
        seconds = []
        for _ in range(1 + repeats):
            began_s = time.perf_counter()
            await pool.score(cohort)
            seconds.append(time.perf_counter() - began_s)
    finally:
        await pool.close()
    return {
        "videos x G": f"{videos} x {completions}",
        "cohort ms": 1000 * median(seconds[1:]),
        "turns": repeats,
    }
