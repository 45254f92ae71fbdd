"""Whole runs as a user starts them: a small set of videos, the command, and what is left behind."""

import sys
import time
from pathlib import Path
from typing import Any

from monitoring.run_dir import RunDirectory
from tests.conftest import moving_frames

ROOT = Path(__file__).resolve().parent.parent
BASE = ROOT / "demo" / "tiny-internvl"
PATIENCE_S = 280
N_TRAIN, N_TEST = 8, 4


def make_set(folder: Path) -> Path:
    """A manifest of eight good rows to train on, a truncated and an empty file among them, and four to
    judge."""
    from data.lossless import write_lossless

    rows = ["path,mos,split"]
    for number in range(N_TRAIN + N_TEST):
        path = folder / f"clip-{number}.mp4"
        write_lossless(path, moving_frames(8, px=96, seed=number))
        rows.append(f"{path.name},{1 + number % 5},{'train' if number < N_TRAIN else 'test'}")
    (folder / "empty.mp4").touch()
    whole = (folder / "clip-0.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    rows += ["empty.mp4,2,train", "cut.mp4,3,train"]
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder / "manifest.csv"


def command(manifest: Path, model: Path, run: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        str(ROOT / "launch.py"),
        "train",
        str(ROOT / "configs" / "demo.toml"),
        f"--data.manifest={manifest}",
        f"--model.path={model}",
        f"--run_dir={run}",
        "--schedule.videos_per_cohort=5",
        "--schedule.completions_per_video=2",
        "--evaluation.splits=[test]",
        "--evaluation.every_updates=0",
        "--evaluation.samples=0",
        "--evaluation.bootstrap_samples=100",
        *more,
    ]


def processes_of(session: int) -> list[str]:
    """Command lines of the processes in a session that are alive."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(stat.with_name("cmdline").read_text().replace("\0", " "))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def nothing_left(session: int) -> list[str]:
    """What is left of a run some time after its end; should be nothing.

    Where Ray was killed, its agents try for a minute to tell the rest of it before they end.
    """
    deadline = time.monotonic() + 150
    while (left := processes_of(session)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return left


def lines(run: Path, name: str) -> list[dict[str, Any]]:
    return list(RunDirectory(run).read_lines(name))
