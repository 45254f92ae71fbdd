"""Whole runs through `launch.py train`, with real engines, learner and videos."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cluster.run_dir import RunDirectory

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parent.parent
BASE = ROOT / "models" / "tiny-internvl"
PATIENCE_S = 280


@pytest.fixture(scope="module")
def manifest(videos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight good rows to train on, a truncated and an empty file among them, and four to judge."""
    from data.demo.build import write_lossless
    from tests.conftest import moving_frames

    folder = tmp_path_factory.mktemp("set")
    rows = ["path,mos,split"]
    for number in range(12):
        path = folder / f"clip-{number}.mp4"
        write_lossless(path, moving_frames(8, px=96, seed=number))
        rows.append(f"{path.name},{1 + number % 5},{'train' if number < 8 else 'test'}")
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
    """What is left of a run some seconds after its end; should be nothing."""
    deadline = time.monotonic() + 20
    while (left := processes_of(session)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return left


def lines(run: Path, name: str) -> list[dict[str, Any]]:
    return list(RunDirectory(run).read_lines(name))


def test_a_run_interrupted_resumed_and_finished(manifest: Path, tmp_path: Path) -> None:
    """Ctrl-C in mid-run ends it with a checkpoint and no process; resumed, it ends with every row accounted
    for, the bad files listed, a summary, a picture and a model. Stale by at most one version, too."""
    run = tmp_path / "run"
    arguments = command(
        manifest, BASE, run, "--schedule.epochs=4", "--schedule.max_staleness=1", "--learner.lr=1e-3"
    )
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    metrics = run / "metrics.jsonl"
    deadline = time.monotonic() + PATIENCE_S
    while not metrics.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "Stopped with a checkpoint" in output, output
    assert nothing_left(process.pid) == []
    done = len(lines(run, "metrics"))
    assert 1 <= done < 8

    resumed = subprocess.Popen(
        [*arguments[:3], "--resume", f"--run_dir={run}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output, _ = resumed.communicate(timeout=PATIENCE_S)
    assert resumed.returncode == 0, output
    assert nothing_left(resumed.pid) == []

    assert [m["update"] for m in lines(run, "metrics")] == list(range(8))
    groups, failures = lines(run, "groups"), lines(run, "failures")
    fates = Counter(
        [(g["epoch"], g["video_id"]) for g in groups] + [(f["epoch"], f["video_id"]) for f in failures]
    )
    names = [f"clip-{i}.mp4" for i in range(8)] + ["cut.mp4", "empty.mp4"]
    assert sorted(fates) == sorted((epoch, name) for epoch in range(4) for name in names)
    assert set(fates.values()) == {1}
    assert {f["video_id"] for f in failures} == {"cut.mp4", "empty.mp4"}
    assert {f["stage"] for f in failures} == {"decode"}
    ages = [g["update"] - v for g in groups for vs in g["clean"]["versions"] for v in vs]
    assert min(ages) >= 0
    assert max(ages) <= 1

    summary = json.loads((run / "summary.json").read_text())
    assert summary["updates"] == 8
    assert summary["failed_videos"] == 8
    assert set(summary["base"]) == set(summary["trained"]) == {"test"}
    assert summary["seconds"] > 0
    assert (run / "curves.png").stat().st_size > 10_000
    assert list((run / "tensorboard").iterdir())

    from transformers import AutoModelForImageTextToText, AutoProcessor

    AutoProcessor.from_pretrained(run / "final")
    trained = AutoModelForImageTextToText.from_pretrained(run / "final").state_dict()
    base = AutoModelForImageTextToText.from_pretrained(BASE).state_dict()
    assert trained.keys() == base.keys()
    assert max(float((trained[n] - base[n]).abs().max()) for n in base) > 1e-3


def test_a_run_that_fails_says_why_and_leaves_nothing(manifest: Path, tmp_path: Path) -> None:
    """A model whose positions do not suffice is found out by the engine only."""
    done = subprocess.Popen(
        command(manifest, BASE, tmp_path / "run", "--rollout.max_model_tokens=8192"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output, _ = done.communicate(timeout=PATIENCE_S)
    assert done.returncode == 1
    assert "rollout.max_model_tokens is 8192" in output.replace("\n", " "), output
    assert "Traceback" not in output
    assert nothing_left(done.pid) == []
