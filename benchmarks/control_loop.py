"""The real controller over Ray actors that only sleep: `python -m benchmarks.control_loop --json out.json`.

Overlap: sampling and learning take 2 s each; how long is a step with `max_staleness` 0 and 1, and with each
phase alone? Throughput: how many groups a second go through the controller with 64 workers?
"""

import argparse
import asyncio
import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import ray

from benchmarks.machine import describe_machine, write_figures
from benchmarks.sleeping import sleeping_job, sleeping_workers
from cluster.controller import Controller
from cluster.preflight import Job
from monitoring.run_dir import RunDirectory

WHAT = ("overlap", "throughput")
PHASE_S = 2.0
PLACES = 4
"""Videos that a worker samples side by side."""
WARM_UP = 2
"""Updates that are not counted: the first videos find an empty fleet."""


def run(job: Job, rollout_s: float, update_s: float) -> list[dict[str, Any]]:
    """Run a job to its end; returns its metrics, those at the start left out."""
    with tempfile.TemporaryDirectory(prefix="control-loop-") as folder:
        directory = RunDirectory(Path(folder) / "run")
        directory.create("{}", "")
        controller = Controller(job, directory, False, sleeping_workers(rollout_s, update_s))
        asyncio.run(controller.run())
        return list(directory.read_lines("metrics"))[WARM_UP:]


def overlap(updates: int) -> dict[str, Any]:
    """Seconds of a step, by what is run."""
    workers, per_update = 4, 32
    rollout_s = PHASE_S * workers * PLACES / per_update

    def step_s(rollout_s: float, update_s: float, staleness: int, in_flight: str = "keep") -> float:
        job = sleeping_job(
            per_update * updates,
            "--schedule.videos_per_cohort=8",
            "--schedule.cohorts_per_update=4",
            "--schedule.completions_per_video=4",
            f"--schedule.max_staleness={staleness}",
            f"--rollout.replicas={workers}",
            "--rollout.max_completion_tokens=32",
            f"--rollout.max_concurrent_sequences={4 * PLACES}",
            f"--rollout.in_flight={in_flight}",
        )
        return median(m["timing/step_s"] for m in run(job, rollout_s, update_s))

    figures = {
        "rollout alone": step_s(rollout_s, 0.0, 0),
        "learner alone": step_s(0.0, PHASE_S, 0),
        "max_staleness=0": step_s(rollout_s, PHASE_S, 0),
        "max_staleness=1": step_s(rollout_s, PHASE_S, 1),
        "max_staleness=1, finish": step_s(rollout_s, PHASE_S, 1, "finish"),
    }
    longer = max(figures["rollout alone"], figures["learner alone"])
    return {
        "step_s": figures,
        "step_over_longer_phase": figures["max_staleness=1"] / longer,
        "speed_up_over_on_policy": figures["max_staleness=0"] / figures["max_staleness=1"],
    }


def throughput(workers: int, updates: int) -> dict[str, Any]:
    """Groups a second of 8 completions each, one to a call of a worker."""
    per_update, completions = 256, 8
    job = sleeping_job(
        per_update * updates,
        "--schedule.videos_per_cohort=16",
        "--schedule.cohorts_per_update=16",
        f"--schedule.completions_per_video={completions}",
        "--schedule.max_staleness=2",
        f"--rollout.replicas={workers}",
        "--rollout.cpus_per_replica=0.1",
        "--rollout.max_completion_tokens=32",
        f"--rollout.max_concurrent_sequences={completions * PLACES}",
    )
    metrics = run(job, rollout_s=0.5, update_s=0.1)
    first, last = metrics[0], metrics[-1]
    groups, seconds = per_update * (len(metrics) - 1), last["time"] - first["time"]
    return {
        "workers": workers,
        "groups": groups,
        "groups_per_s": groups / seconds,
        "controller_core_share": (last["controller/processor_s"] - first["controller/processor_s"]) / seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=WHAT, help="default: both")
    parser.add_argument("--updates", type=int, default=20, help="updates of each run")
    parser.add_argument("--workers", type=int, default=64, help="sleeping workers of the throughput")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    ray.init(num_cpus=128, include_dashboard=False, log_to_driver=False, object_store_memory=200 * 2**20)
    try:
        for name in [arguments.only] if arguments.only else WHAT:
            if name == "overlap":
                figures[name] = overlap(arguments.updates)
            else:
                figures[name] = throughput(arguments.workers, arguments.updates)
            print(json.dumps({name: figures[name]}, indent=2), flush=True)
    finally:
        ray.shutdown()
    write_figures({"machine": describe_machine()} | figures, arguments.json)


if __name__ == "__main__":
    main()
