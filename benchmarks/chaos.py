"""Runs that are killed again and again, and what was lost: every row of an epoch must end exactly once.

    python -m benchmarks.chaos everything --kills 20 --json everything.json
    python -m benchmarks.chaos actors --updates 60 --json actors.json

`everything`: a small run, SIGKILL for all of its processes at random moments, resumed each time.
`actors`: the demo with one video cut short, during which a rollout worker is killed every 90 s, and a reward
actor and a learner rank once each.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.machine import describe_machine, write_figures
from cluster.config import load_config
from cluster.preflight import read_job
from tests.faults import actors, fates, kill_session, recorded_updates, start, told
from tests.runs import BASE, N_TRAIN, ROOT, command, make_set

LIFE_S = 1800.0
"""Longest time that one life of a run may take here."""
DEMO_S = 3600.0


class LostRowError(AssertionError):
    """A row of an epoch did not end exactly once."""


def everything(kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Kill all processes of small runs at random moments; returns a row for each kill and for each run."""
    dice = random.Random(seed)
    moments: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    manifest = make_set(folder)
    while len(moments) < kills:
        run, epochs = folder / f"run-{len(runs)}", 15
        arguments = command(
            manifest, BASE, run, f"--schedule.epochs={epochs}", "--schedule.updates=10000",
            "--schedule.max_staleness=1", "--checkpoint.every_updates=3", "--rollout.replicas=1",
        )  # fmt: skip
        lives = 0
        while True:
            last = len(moments) >= kills
            resume = (run / "run.json").exists()
            call = [*arguments[:3], "--resume", f"--run_dir={run}"] if resume else arguments
            life = _live(call, run, None if last else dice, folder / "log")
            lives += 1
            if life["killed"]:
                moments.append({"run": len(runs), **life})
                print(json.dumps(moments[-1]), flush=True)
            elif life["code"] == 0:
                break
            else:
                raise RuntimeError(f"a run ended with code {life['code']}:\n{(folder / 'log').read_text()}")
        names = [f"clip-{i}.mp4" for i in range(N_TRAIN)] + ["cut.mp4", "empty.mp4"]
        _require_one_fate(run, {(epoch, name) for epoch in range(epochs) for name in names})
        runs.append({"lives": lives, "updates": recorded_updates(run), "rows": epochs * len(names)})
        print(json.dumps(runs[-1]), flush=True)
    return {"kills": moments, "runs": runs}


def _live(call: list[str], run: Path, dice: random.Random | None, log: Path) -> dict[str, Any]:
    """One life of a run, until it ends or, with `dice`, is killed: in three of ten lives within 30 s of the
    start, else within 15 s of its first new update."""
    before, started = recorded_updates(run), time.monotonic()
    process = start(call, log)
    kill_at = None
    if dice is not None:
        early = dice.random() < 0.3
        wait_s = dice.uniform(0, 30 if early else 15)
        kill_at = started + wait_s if early else None
    while process.poll() is None:
        now = time.monotonic()
        if now - started > LIFE_S:
            kill_session(process.pid)
            raise TimeoutError(f"a life of more than {LIFE_S:g} s:\n{log.read_text()}")
        if dice is not None and kill_at is None and recorded_updates(run) > before:
            kill_at = now + wait_s
        if kill_at is not None and now >= kill_at:
            stage = _stage(log)
            processes = kill_session(process.pid)
            process.wait(timeout=60)
            newest = sorted(p.name for p in (run / "checkpoints").glob("v*/checkpoint.json"))
            return {
                "killed": True,
                "after_s": round(now - started, 1),
                "stage": stage,
                "processes": processes,
                "updates": recorded_updates(run) if (run / "run.json").exists() else 0,
                "checkpoints": len(newest),
            }
        time.sleep(0.05)
    kill_session(process.pid)
    return {"killed": False, "code": process.returncode}


def _stage(log: Path) -> str:
    """What the command said last that it was doing."""
    said = [line.split("]", 1)[1].strip() for line in log.read_text().splitlines() if line.startswith("[")]
    return said[-1].split(":")[0] if said else "reading its input"


def _require_one_fate(run: Path, rows: set[tuple[int, str]]) -> None:
    """Raises LostRowError unless every row ended exactly once."""
    found = fates(run)
    wrong = {row: n for row, n in found.items() if n != 1} | dict.fromkeys(rows - set(found), 0)
    if wrong or set(found) != rows:
        raise LostRowError(f"{run}: rows that did not end exactly once: {wrong or set(found) - rows}")


def killed_actors(updates: int, every_s: float, seed: int, folder: Path) -> dict[str, Any]:
    """The demo, once quiet and once with its actors killed."""
    clips = folder / "clips"
    shutil.copytree(ROOT / "demo" / "built", clips, copy_function=os.link)
    manifest = clips / "manifest.csv"
    table = pd.read_csv(manifest)
    train = sorted(table[table["split"] == "train"]["path"])
    cut = clips / train[len(train) // 2]
    whole = cut.read_bytes()
    cut.unlink()  # a hard link: the other name keeps its content
    cut.write_bytes(whole[: len(whole) // 3])
    found = {}
    for name in ("quiet", "killed"):
        run = folder / name
        call = [
            sys.executable, str(ROOT / "launch.py"), "train", str(ROOT / "configs" / "demo.toml"),
            f"--data.manifest={manifest}", f"--run_dir={run}", f"--schedule.updates={updates}",
            f"--seed={seed}", "--schedule.epochs=100", "--evaluation.splits=[test]",
            "--evaluation.every_updates=0", "--evaluation.samples=0", "--checkpoint.every_updates=10",
            "--rollout.max_worker_restarts=100", "--rewards.actors=1",
        ]  # fmt: skip
        process = start(call, folder / f"{name}.log")
        killed = _torment(process, run, updates, every_s, random.Random(seed)) if name == "killed" else []
        code = process.wait(timeout=DEMO_S)
        left = kill_session(process.pid)
        if code:
            raise RuntimeError(
                f"the {name} run ended with code {code}:\n{(folder / f'{name}.log').read_text()}"
            )
        found[name] = _figures(run) | {"processes_left": left, "faults": _recoveries(run, killed)}
        print(json.dumps({name: found[name]}), flush=True)
    return found


def _torment(
    process: subprocess.Popen[str], run: Path, updates: int, every_s: float, dice: random.Random
) -> list[dict[str, Any]]:
    """Kill actors until the run is near its end; returns who was killed and when."""
    once = {"RewardActor": updates // 3, "LearnerRank": updates // 2}
    killed: list[dict[str, Any]] = []
    next_worker_s = time.monotonic() + every_s
    while process.poll() is None and (done := recorded_updates(run)) < updates - 2:
        victims = [name for name, at in once.items() if done >= at]
        if done and time.monotonic() >= next_worker_s:
            victims.append("RolloutWorker")
            next_worker_s = time.monotonic() + every_s
        for name in victims:
            once.pop(name, None)
            if pids := actors(process.pid, name):
                os.kill(dice.choice(pids), signal.SIGKILL)
                killed.append({"actor": name, "time": time.time(), "update": done})
        time.sleep(0.2)
    return killed


def _recoveries(run: Path, killed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each kill: seconds until it was found out, until something took the actor's place, and until the
    next update was done; updates that were done again."""
    names = {"RolloutWorker": "rollout-", "RewardActor": "a reward actor", "LearnerRank": "learner"}
    faults, recoveries = told(run, "faults"), told(run, "recoveries")
    times = sorted(m["time"] for m in told(run, "metrics"))
    rows = []
    for kill in killed:
        after = [
            f for f in faults if f["actor"].startswith(names[kill["actor"]]) and f["time"] >= kill["time"]
        ]
        fault = after[0] if after else None
        back = [
            r for r in recoveries if fault and r["actor"] == fault["actor"] and r["time"] >= fault["time"]
        ]
        rows.append(
            kill
            | {
                "found_out_s": round(fault["time"] - kill["time"], 1) if fault else None,
                "replaced_s": round(back[0]["time"] - kill["time"], 1) if back else None,
                "by": back[0]["successor"] if back else None,
                "next_update_s": next((round(t - kill["time"], 1) for t in times if t > kill["time"]), None),
            }
        )
    return rows


def _figures(run: Path) -> dict[str, Any]:
    """What a finished run came to."""
    job, updates = read_job(load_config(run / "config.json")), recorded_updates(run)
    cohorts = (job.sampler.cohort(index) for index in range(updates))
    rows = {(cohort.epoch, member.video.video_id) for cohort in cohorts for member in cohort.members}
    _require_one_fate(run, rows)
    summary = json.loads((run / "summary.json").read_text())
    return {
        "seed": job.config.seed,
        "updates": updates,
        "updates_done_again": len(told(run, "metrics")) - updates,
        "rows": len(rows),
        "failed": summary["failed_paths"],
        "minutes": round(summary["seconds"] / 60, 1),
        "base": summary["base"]["test"]["srcc"],
        "trained": summary["trained"]["test"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["everything", "actors"])
    parser.add_argument("--kills", type=int, default=20, help="of everything")
    parser.add_argument("--updates", type=int, default=60, help="of the demo")
    parser.add_argument(
        "--every", type=float, default=90.0, help="seconds between two kills of a rollout worker"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as name:
        if arguments.what == "everything":
            figures = everything(arguments.kills, arguments.seed, Path(name))
        else:
            figures = killed_actors(arguments.updates, arguments.every, arguments.seed, Path(name))
    write_figures({"machine": describe_machine()} | figures, arguments.json)


if __name__ == "__main__":
    main()
