"""The real controller on 4 + 4 and 32 + 32 sleeping actors: `python -m benchmarks.scale_loop --json FILE`.

Engines, ranks and decoders sleep as long as theirs would take by `launch.py plan --loop`, at `--scale` of the
time; fleet, router, buffer, controller, reward pool, weight sync and evaluation are the real ones. Prints the
seconds of an update side by side, in the preset's time, with what the simulation says of the same.

    python -m benchmarks.scale_loop --only 4+4
    python -m benchmarks.scale_loop --only 4+4 --set --schedule.max_staleness=2

Everything after `--set` are settings of the run, for a second turn beside the first.
"""

import argparse
import asyncio
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

from benchmarks.machine import describe_machine, write_figures
from benchmarks.sleeping import timed_workers
from cluster.config import derive_sizes, load_config
from cluster.controller import Controller
from cluster.planning.architecture import read_architecture
from cluster.planning.costs import LoopCosts
from cluster.planning.engines import Answers, EngineSpeed
from cluster.planning.service_times import CheckpointLoad, ServiceTimes
from cluster.planning.workers import LSVQ_TEST, LoopPlan
from cluster.preflight import Job
from data.records import Video
from data.sampler import CohortSampler
from monitoring.run_dir import RunDirectory

PRESET = Path("configs/internvl3-8b.toml")
SIZES = {"4+4": (4, 4), "32+32": (32, 4), "32+32-128": (32, 16)}
"""Ranks and as many engines, and cohorts an update: 32 videos, and in the last 128."""
WARM_UP = 4
EVERY = 8
"""Updates between evaluations and checkpoints here; both are made smaller in proportion to the preset's."""
COUNTED = 2 * EVERY
SLEEPING = (
    "--rollout.engine=async",
    "--rollout.gpus_per_replica=0",
    "--rollout.cpus_per_replica=0.01",
    "--learner.gpus_per_rank=0",
    "--learner.cpus_per_rank=0.01",
    "--rewards.actors=2",
    "--metrics.tensorboard=false",
    "--metrics.prometheus=false",
    "--evaluation.bootstrap_samples=100",
    f"--evaluation.every_updates={EVERY}",
    f"--checkpoint.every_updates={EVERY}",
    "--schedule.epochs=1",
)


def plan_for(size: str, at_cap: float, overrides: list[str]) -> LoopPlan:
    """The preset on so many ranks and engines; evaluations and checkpoints as often as the preset's."""
    many, cohorts = SIZES[size]
    scaled = [
        f"--learner.ranks={many}",
        f"--rollout.replicas={many}",
        f"--schedule.cohorts_per_update={cohorts}",
    ]
    preset = load_config(PRESET)
    config = load_config(PRESET, [*scaled, *SLEEPING, *overrides])
    share = EVERY / preset.evaluation.every_updates
    return LoopPlan.of(config, Answers(at_cap=at_cap), round(LSVQ_TEST * share))


def real_run(plan: LoopPlan, times: ServiceTimes) -> dict[str, float]:
    """Seconds of an update by what they go to, of a run in real time."""
    config = plan.config
    schedule = config.schedule
    updates = WARM_UP + COUNTED
    n_videos = updates * schedule.cohorts_per_update * schedule.videos_per_cohort
    videos = [Video(f"v{i}", f"/v{i}.mp4", 1 + i % 5, "train") for i in range(n_videos)]
    test = [Video(f"t{i}", f"/t{i}.mp4", 1 + i % 5, "test") for i in range(plan.evaluated)]
    sampler = CohortSampler(
        videos, schedule.videos_per_cohort, config.seed, config.data.frames_per_video, config.temporal
    )
    sizes = derive_sizes(config, n_videos, sampler.cohorts_per_epoch)
    job = Job(config, videos, {"test": test}, sampler, sizes)
    with tempfile.TemporaryDirectory(prefix="scale-loop-") as folder:
        directory = RunDirectory(Path(folder) / "run")
        directory.create("{}", "")
        make = timed_workers(times, config.learner.ranks)
        asyncio.run(Controller(job, directory, False, make).run())
        metrics = list(directory.read_lines("metrics"))
    first, counted = metrics[WARM_UP - 1], metrics[WARM_UP:]
    period = (counted[-1]["time"] - first["time"]) / len(counted)
    mean = {
        name: sum(m[key] for m in counted) / len(counted)
        for name, key in (("update", "learner/update_s"), ("push", "sync/s"), ("waits", "timing/wait_s"))
    }
    step = sum(m["timing/step_s"] for m in counted) / len(counted)
    mean["update"] = step - mean["waits"] - mean["push"]
    processor = counted[-1]["controller/processor_s"] - first["controller/processor_s"]
    return {
        "period": period,
        **mean,
        "evaluation and checkpoint": period - step,
        "controller": processor / len(counted),
    }


def scaled(times: ServiceTimes, scale: float) -> ServiceTimes:
    """The same with every second made shorter."""
    engine, checkpoint = times.engine, times.checkpoint
    assert engine is not None
    assert checkpoint is not None
    return replace(
        times,
        update_s=times.update_s * scale,
        gather_s=times.gather_s * scale,
        sync_s=times.sync_s * scale,
        decode_s=times.decode_s * scale,
        engine=EngineSpeed(
            engine.step_s * scale,
            engine.step_s_per_sequence * scale,
            engine.prefill_s * scale,
            engine.resume_s * scale,
        ),
        checkpoint=CheckpointLoad(checkpoint.write_s * scale, checkpoint.snapshot_s * scale),
    )


def measure(size: str, scale: float, at_cap: float, overrides: list[str]) -> dict[str, Any]:
    plan, costs = plan_for(size, at_cap, overrides), LoopCosts()
    model = read_architecture(plan.config.model.path)
    # Sleeping ranks gather before engines load, as the transport over the object store does.
    plan = replace(plan, gather_first=True)
    times = plan.times(model, costs)
    assert times.checkpoint is not None
    share = EVERY / load_config(PRESET).checkpoint.every_updates
    shorter = CheckpointLoad(times.checkpoint.write_s * share, times.checkpoint.snapshot_s * share)
    times = replace(times, checkpoint=shorter)
    ray.init(num_cpus=128, include_dashboard=False, log_to_driver=False, object_store_memory=200 * 2**20)
    try:
        found = {name: value / scale for name, value in real_run(plan, scaled(times, scale)).items()}
    finally:
        ray.shutdown()
    schedule = plan.config.schedule
    videos = schedule.cohorts_per_update * schedule.videos_per_cohort
    return {"size": size, "videos/s": videos / found["period"], **found, "settings": overrides}


def main() -> None:
    mine, _, theirs = " ".join(sys.argv[1:]).partition("--set")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=SIZES, nargs="+", default=list(SIZES))
    parser.add_argument("--scale", type=float, default=0.2, help="of the preset's seconds (0.2)")
    parser.add_argument("--at-cap", type=float, default=0.002, help="share of answers that run to the cap")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--set", metavar="SETTING", help="settings of a second turn; last of all arguments")
    given = parser.parse_args(mine.split())
    turns = [[], theirs.split()] if theirs else [[]]
    rows: list[dict[str, Any]] = []
    for size in given.only:
        for overrides in turns:
            row = measure(size, given.scale, given.at_cap, overrides)
            rows.append(row)
            figures = ", ".join(f"{k} {v:.2f}" for k, v in row.items() if isinstance(v, float))
            base = rows[0]
            print(
                f"{size} {' '.join(overrides)}: {figures}; videos/s over the first row's: "
                f"{row['videos/s'] / base['videos/s']:.2f}",
                flush=True,
            )
    write_figures({"machine": describe_machine(), "rows": rows}, given.json)


if __name__ == "__main__":
    main()
