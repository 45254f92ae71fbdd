"""Runs in which processes are killed again and again: what must hold at the end is what always holds."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.faults import actors, fates, recorded_updates, start, told, wait_for_updates
from tests.runs import BASE, N_TRAIN, command, lines, make_set, nothing_left

pytestmark = [pytest.mark.slow, pytest.mark.engine, pytest.mark.timeout(1500)]

EPOCHS = 10
UPDATES = 2 * EPOCHS
KILLS = 6


def every_row_has_one_fate(run: Path) -> None:
    names = [f"clip-{i}.mp4" for i in range(N_TRAIN)] + ["cut.mp4", "empty.mp4"]
    assert fates(run) == {(epoch, name): 1 for epoch in range(EPOCHS) for name in names}
    failed = {f["video_id"] for f in lines(run, "failures")}
    assert failed == {"cut.mp4", "empty.mp4"}, "no good video was given up"
    assert [m["update"] for m in lines(run, "metrics")] == list(range(UPDATES))


@pytest.mark.parametrize("staleness", [0, 1])
def test_rollout_workers_killed_in_mid_run_lose_nothing(tmp_path: Path, staleness: int) -> None:
    run, log, dice = tmp_path / "run", tmp_path / "log", random.Random(staleness)
    more = [
        f"--schedule.epochs={EPOCHS}",
        "--schedule.updates=10000",
        f"--schedule.max_staleness={staleness}",
    ]
    process = start(command(make_set(tmp_path), BASE, run, *more), log)
    wait_for_updates(run, process, 1)
    killed = 0
    while killed < KILLS and process.poll() is None:
        workers = actors(process.pid, "RolloutWorker")
        if workers:
            os.kill(dice.choice(workers), signal.SIGKILL)
            killed += 1
        wait_for_updates(run, process, min(UPDATES - 1, recorded_updates(run) + 2))
        time.sleep(dice.uniform(0, 2))
    assert process.wait(timeout=600) == 0, log.read_text()
    assert killed >= KILLS / 2, "the run was over before it was disturbed"
    assert nothing_left(process.pid) == []
    every_row_has_one_fate(run)
    ages = [g["update"] - v for g in lines(run, "groups") for vs in g["clean"]["versions"] for v in vs]
    assert 0 <= min(ages) <= max(ages) <= staleness
    faults = [fault["actor"] for fault in told(run, "faults")]
    assert faults, "who was killed is on record"
    assert all(actor.startswith("rollout-") for actor in faults)
    assert {r["actor"] for r in told(run, "recoveries")} <= set(faults)


@pytest.mark.parametrize("victim", ["LearnerRank", "RewardActor", "ControllerActor", "the command itself"])
def test_a_run_goes_on_from_its_checkpoint_whatever_killed_it(tmp_path: Path, victim: str) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    more = [f"--schedule.epochs={EPOCHS}", "--schedule.updates=10000", "--checkpoint.every_updates=4"]
    arguments = command(make_set(tmp_path), BASE, run, *more)
    process = start(arguments, log)
    wait_for_updates(run, process, 6)
    os.kill(process.pid if victim == "the command itself" else actors(process.pid, victim)[0], signal.SIGKILL)
    code = process.wait(timeout=300)
    if victim in ("RewardActor", "LearnerRank"):
        assert code == 0, f"what died is replaced\n{log.read_text()}"
        assert nothing_left(process.pid) == []
    else:
        assert code != 0
        assert nothing_left(process.pid) == []
        if victim == "ControllerActor":
            assert "--resume" in log.read_text()
        resumed = start([*arguments[:3], "--resume", f"--run_dir={run}"], log)
        assert resumed.wait(timeout=600) == 0, log.read_text()
        assert nothing_left(resumed.pid) == []
    every_row_has_one_fate(run)
