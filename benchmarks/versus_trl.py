"""The whole system against TRL's GRPOTrainer on the same job: completions a second, end to end.

    python -m benchmarks.versus_trl --json versus.json
    python -m benchmarks.versus_trl --size demo --batch 32
    python -m benchmarks.versus_trl --device cuda

Same model, clips, rewards (rewards/trl.py), G, answer length, KL term, updates and number of cores. Ours is
`launch.py train`; TRL's side is one process with a thread for each core, and has its frames decoded
beforehand. Whole runs take turns. Of each, the first update is left out as a warm-up; whole wall times, from
the command to its end, are told as well, ours with evaluation, checkpoint and export.

TRL samples with transformers' `generate`: on a CPU its other two ways do not exist, for they need vLLM on a
GPU or a model that takes text alone. `--search` tries batch sizes and bfloat16 for one update each. With
`--device cuda` both have one GPU, which our engine and our learner share.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import describe_machine, write_figures
from benchmarks.small_model import FRAME_PX, make_small_model
from benchmarks.trl.job import Job, our_settings, write_clips
from benchmarks.where_time_goes import where_time_goes
from monitoring.run_dir import RunDirectory

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_S = 7200.0
WARM_UP = 1
SEARCH = {
    "real": ((4, False), (8, False), (16, False), (8, True)),
    "demo": ((16, False), (32, False), (64, False), (128, False), (32, True)),
}
"""(completions a pass, bfloat16) of the settings that `--search` tries, by size."""


@dataclass(frozen=True, slots=True)
class Side:
    """Seconds of a run's updates, of the clock and of all its processes' processors, and of the whole run."""

    clock_s: Sequence[float]
    processor_s: Sequence[float]
    whole_s: float

    def counted(self) -> "Side":
        return Side(self.clock_s[WARM_UP:], self.processor_s[WARM_UP:], self.whole_s)


def rows(job: Job, rounds: Sequence[tuple[Side, Side]]) -> list[dict[str, Any]]:
    """A row for each system out of pairs (TRL, ours); the ratio is the median over rounds."""
    per_update, done = job.completions_per_update, job.completions_per_update * job.updates

    def rate(seconds: Sequence[float]) -> float:
        return per_update / median(seconds)

    def row(name: str, sides: Sequence[Side]) -> dict[str, Any]:
        return {
            "system": name,
            "update s": median(median(s.clock_s) for s in sides),
            "completions/s": median(rate(s.clock_s) for s in sides),
            "completions/processor s": median(rate(s.processor_s) for s in sides),
            "whole run s": median(s.whole_s for s in sides),
            "completions/s, whole run": median(done / s.whole_s for s in sides),
        }

    pairs = [(theirs.counted(), ours.counted()) for theirs, ours in rounds]
    table = [row("TRL", [t for t, _ in pairs]), row("ours", [o for _, o in pairs])]
    ratio: dict[str, Any] = {"system": "ratio", "update s": ""}
    ratio["completions/s"] = median(rate(o.clock_s) / rate(t.clock_s) for t, o in pairs)
    ratio["completions/processor s"] = median(rate(o.processor_s) / rate(t.processor_s) for t, o in pairs)
    ratio["whole run s"] = ""
    ratio["completions/s, whole run"] = median(t.whole_s / o.whole_s for t, o in pairs)
    return [*table, ratio]


def run_peer(job: Job, arguments: argparse.Namespace, batch: int, bf16: bool, folder: Path) -> dict[str, Any]:
    """TRL's side, in a process of its own; what it measured, and `whole_s`."""
    request, answer = folder / "peer.json", folder / "peer-figures.json"
    request.write_text(
        json.dumps(
            {
                "job": job.as_json(),
                "threads": arguments.cores,
                "batch": batch,
                "bf16": bf16,
            }
        )
    )
    began_s = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "benchmarks.trl.peer", str(request), str(answer)],
        cwd=ROOT,
        check=True,
        timeout=TIMEOUT_S,
        env={**os.environ, "OMP_NUM_THREADS": str(arguments.cores), "HF_HUB_OFFLINE": "1"},
    )
    return json.loads(answer.read_text()) | {"whole_s": time.monotonic() - began_s}


def run_ours(job: Job, cores: int, run: Path) -> Side:
    """Our side, as a user starts it. Raises TimeoutError, or RuntimeError if the run fails."""
    call = [sys.executable, str(ROOT / "launch.py"), "train", *our_settings(job, run, cores)]
    began_s = time.monotonic()
    # A session of its own tells its processes, Ray's among them, from all others. Ray would have its workers
    # stand back behind the machine's other work, and TRL does not.
    environment = {**os.environ, "RAY_worker_niceness": "0"}
    with run.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(
            call, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    processor_s: list[float] = []
    while process.poll() is None:
        started = (run / "run.json").exists()
        done = len(list(RunDirectory(run).read_lines("metrics"))) if started else 0
        while len(processor_s) < done:
            processor_s.append(session_processor_s(process.pid))
        if time.monotonic() - began_s > TIMEOUT_S:
            process.terminate()
            raise TimeoutError(f"{' '.join(call)}: did not end within {TIMEOUT_S:g} s")
        time.sleep(0.1)
    if process.returncode:
        raise RuntimeError(f"{' '.join(call)} failed:\n{run.with_suffix('.log').read_text()[-4000:]}")
    steps = [update["timing/step_s"] for update in RunDirectory(run).read_lines("metrics")]
    # What was spent before the first update ended includes the start; that update is left out anyway.
    spent = [b - a for a, b in zip([0.0, *processor_s], processor_s, strict=False)]
    return Side(steps, spent, time.monotonic() - began_s)


def session_processor_s(session: int) -> float:
    """Processor seconds of all processes of a session that are alive, with those of their ended children."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session:
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def make_job(arguments: argparse.Namespace, folder: Path) -> Job:
    manifest = str(folder / "clips" / "manifest.csv")
    if arguments.size == "demo":
        model = str(ROOT / "demo" / "tiny-internvl")
        return Job(model, manifest, 4, 96, 16, 8, 32, 512, arguments.updates, arguments.device)
    model = str(make_small_model(folder / "model"))
    return Job(
        model, manifest, 6, FRAME_PX, arguments.videos, 8, 200, 2560, arguments.updates, arguments.device
    )


def search(job: Job, arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """TRL's seconds for one update, after one of warm-up, by setting."""
    found = []
    for batch, bf16 in SEARCH[arguments.size]:
        figures = run_peer(replace(job, updates=2), arguments, batch, bf16, folder)
        found.append(
            {
                "completions a pass": batch,
                "bfloat16": bf16,
                "update s": figures["clock_s"][-1],
                "processor s": figures["processor_s"][-1],
            }
        )
        print(found[-1], flush=True)
    return found


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    job = make_job(arguments, folder)
    write_clips(job)
    figures: dict[str, Any] = {"machine": describe_machine(), "cores": arguments.cores, "job": job.as_json()}
    if arguments.search:
        return figures | {"trl_settings": search(job, arguments, folder)}
    rounds: list[tuple[Side, Side]] = []
    for number in range(arguments.rounds):
        peer = run_peer(job, arguments, arguments.batch, arguments.bf16, folder)
        theirs = Side(peer["clock_s"], peer["processor_s"], peer["whole_s"])
        run = folder / f"run{number}"
        rounds.append((theirs, run_ours(job, arguments.cores, run)))
        print(rounds[-1], flush=True)
    if arguments.keep is not None:
        shutil.copytree(run, arguments.keep)
    ours = list(RunDirectory(run).read_lines("metrics"))
    figures["trl"] = {
        "version": peer["version"],
        "completions_a_pass": arguments.batch,
        "bf16": arguments.bf16,
        "reward_std": peer["reward_std"],
    }
    figures["completion_tokens"] = {
        "trl": peer["completion_tokens"],
        "ours": [update["rollout/completion_tokens"] for update in ours],
    }
    figures["our_trained_videos"] = [update["data/trained_videos"] for update in ours]
    return figures | {"versus": rows(job, rounds)} | where_time_goes(run)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=("real", "demo"), default="real", help="proportions of the job")
    parser.add_argument("--videos", type=int, default=4, help="of an update, at real proportions")
    parser.add_argument("--updates", type=int, default=3, help="of each run, the first uncounted")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each side")
    parser.add_argument("--cores", type=int, default=2, help="threads of TRL; engines and ranks of ours")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, default=8, help="completions of one pass of TRL's trainer")
    parser.add_argument("--bf16", action="store_true", help="TRL computes in bfloat16")
    parser.add_argument("--search", action="store_true", help="try settings of TRL instead")
    parser.add_argument("--keep", type=Path, help="copy our last run directory here")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="versus-trl-") as folder:
        figures = measure(arguments, Path(folder))
    write_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
