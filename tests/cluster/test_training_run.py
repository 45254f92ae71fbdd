"""Whole runs through `launch.py train`, with real engines, learner and videos."""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.runs import BASE, PATIENCE_S, command, lines, make_set, nothing_left

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_set(tmp_path_factory.mktemp("set"))


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


def test_a_run_that_cannot_start_says_why_and_leaves_nothing(manifest: Path, tmp_path: Path) -> None:
    """A model whose positions do not suffice is refused before an engine starts."""
    done = subprocess.Popen(
        command(manifest, BASE, tmp_path / "run", "--rollout.max_model_tokens=8192"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output, _ = done.communicate(timeout=PATIENCE_S)
    assert done.returncode == 2
    assert "rollout.max_model_tokens is 8192" in output.replace("\n", " "), output
    assert "Traceback" not in output
    assert nothing_left(done.pid) == []
