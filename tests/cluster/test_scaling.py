"""Rollout workers that come and go in mid-run, asked for from another process."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.faults import wait_for_updates
from tests.runs import BASE, N_TRAIN, ROOT, command, lines, make_set, nothing_left

pytestmark = [pytest.mark.slow, pytest.mark.engine, pytest.mark.timeout(1200)]

EPOCHS = 40


def launch(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), *arguments], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def status(run: Path) -> dict[str, Any]:
    return json.loads(launch("status", str(run), "--json"))


def test_from_one_worker_to_three_and_back(tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    more = [f"--schedule.epochs={EPOCHS}", "--schedule.updates=10000", "--rollout.replicas=1"]
    process = subprocess.Popen(
        command(make_set(tmp_path), BASE, run, *more),
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for_updates(run, process, 2)
        assert "3 rollout workers" in launch("scale", str(run), "--rollout-workers=3")
        seen = status(run)
        assert [w["state"] for w in seen["workers"]] == ["healthy"] * 3
        assert seen["worker_restarts"] == seen["learner_restarts"] == 0
        wait_for_updates(run, process, seen["version"] + 4)
        launch("scale", str(run), "--rollout-workers=1")
        assert len(status(run)["workers"]) == 1
        assert process.wait(timeout=900) == 0, log.read_text()
        assert nothing_left(process.pid) == []
    finally:
        process.kill()

    groups, failures = lines(run, "groups"), lines(run, "failures")
    fates = Counter((r["epoch"], r["video_id"]) for r in [*groups, *failures])
    assert len(fates) == EPOCHS * (N_TRAIN + 2)
    assert set(fates.values()) == {1}
    by_update = [{g["worker"] for g in groups if g["update"] == u} for u in range(2 * EPOCHS)]
    assert by_update[0] == {"rollout-0"}
    assert max(map(len, by_update)) == 3, "the new workers took part"
    assert len(by_update[-1]) == 1
