"""Actors that hang instead of dying, storage that is full: real runs continue, or end with a clear error."""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import actors, fates, kill_session, recorded_updates, start, told, wait_for_updates
from tests.runs import BASE, N_TRAIN, command, lines, make_set, nothing_left

pytestmark = [pytest.mark.slow, pytest.mark.engine, pytest.mark.timeout(2400)]

EPOCHS = 12
START_S = 240.0
"""What a busy machine may take to restart all ranks."""
DEADLINES_S = {"rollout.group_timeout_s": 60, "rewards.timeout_s": 30, "learner.update_timeout_s": 90}


def small_run(folder: Path, run: Path, *more: str) -> list[str]:
    settings = [f"--schedule.epochs={EPOCHS}", "--schedule.updates=10000", "--checkpoint.every_updates=4"]
    return command(make_set(folder), BASE, run, *settings, *more)


def wait_for(run: Path, records: str, actor: str, timeout_s: float = 600) -> list[dict[str, Any]]:
    """What faults.jsonl or recoveries.jsonl tells of an actor, once it does."""
    deadline = time.monotonic() + timeout_s
    while not (found := [r for r in told(run, records) if r["actor"].startswith(actor)]):
        assert time.monotonic() < deadline, f"{records} tell nothing of {actor} within {timeout_s} s"
        time.sleep(0.2)
    return found


def every_row_ended_once(run: Path) -> bool:
    return set(fates(run).values()) == {1} and len(fates(run)) == EPOCHS * (N_TRAIN + 2)


def test_an_actor_that_is_stopped_holds_the_run_up_no_longer_than_its_deadline(tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    deadlines = [f"--{name}={seconds}" for name, seconds in DEADLINES_S.items()]
    more = ["--learner.collective_timeout_s=90", "--rewards.actors=1", "--rollout.replicas=1"]
    process = start(small_run(tmp_path, run, *deadlines, *more), log)
    victims = {"RewardActor": "a reward actor", "RolloutWorker": "rollout-", "LearnerRank": "learner"}
    try:
        for victim, told_as in victims.items():
            wait_for_updates(run, process, recorded_updates(run) + 3)
            for pid in actors(process.pid, victim)[:1]:
                os.kill(pid, signal.SIGSTOP)
            (fault, *_) = wait_for(run, "faults", told_as)
            assert any(word in fault["reason"] for word in ("no answer within", "Timed out"))
            wait_for(run, "recoveries", told_as)
        assert process.wait(timeout=900) == 0, log.read_text()
        assert nothing_left(process.pid) == [], "what was stopped is killed, too"
    finally:
        kill_session(process.pid)
    assert every_row_ended_once(run)
    times = [m["time"] for m in told(run, "metrics")]
    pause_s = max(after - before for before, after in itertools.pairwise(times))
    assert pause_s < max(DEADLINES_S.values()) + START_S, (
        "one deadline, and the start of what takes its place"
    )


def test_a_controller_that_is_stopped_ends_the_command_with_a_way_to_go_on(tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    arguments = small_run(tmp_path, run, "--rollout.replicas=1", "--learner.ranks=1")
    process = start(arguments, log)
    try:
        wait_for_updates(run, process, 5)
        os.kill(actors(process.pid, "ControllerActor")[0], signal.SIGSTOP)
        assert process.wait(timeout=180) == 1, log.read_text()
        assert "controller.events: no answer within 60 s" in log.read_text()
        assert nothing_left(process.pid) == []
    finally:
        kill_session(process.pid)
    resumed = start([*arguments[:3], "--resume", f"--run_dir={run}"], log)
    try:
        assert resumed.wait(timeout=600) == 0, log.read_text()
    finally:
        kill_session(resumed.pid)
    assert every_row_ended_once(run)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounts a file system, which takes root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if subprocess.run(mount, timeout=30).returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=30)


def fill(path: Path) -> None:
    """Write a file until the disk is full."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(2**16)):
            pass
    assert shutil.disk_usage(path).free == 0


def test_a_full_disk_ends_the_run_and_no_record_is_broken(tmp_path: Path, small_disk: Path) -> None:
    run, log, ballast = small_disk / "run", tmp_path / "log", small_disk / "ballast"
    arguments = small_run(tmp_path, run, "--rollout.replicas=1", "--learner.ranks=1")
    process = start(arguments, log)
    try:
        wait_for_updates(run, process, 6)
        fill(ballast)
        assert process.wait(timeout=300) == 1, log.read_text()
        assert nothing_left(process.pid) == []
    finally:
        kill_session(process.pid)
    text = " ".join(log.read_text().split())
    assert "No space left on device" in text
    assert "--resume" in text
    for path in run.glob("*.jsonl"):
        assert path.read_bytes().endswith(b"\n") or path.stat().st_size == 0, path.name
    ballast.unlink()
    resumed = start([*arguments[:3], "--resume", f"--run_dir={run}"], log)
    try:
        assert resumed.wait(timeout=600) == 0, log.read_text()
    finally:
        kill_session(resumed.pid)
    assert every_row_ended_once(run)


def test_frames_that_the_object_store_has_no_room_for_wait_on_disk(tmp_path: Path) -> None:
    """Everything is decoded ahead, 160 MB of frames, into a store of 80."""
    run, log = tmp_path / "run", tmp_path / "log"
    more = ["--schedule.epochs=150", "--schedule.updates=4", "--data.frames_per_video=4"]
    manifest = make_set(tmp_path)
    ahead = ["--cluster.object_store_mb=80", "--cluster.prefetch_videos=1500", "--learner.ranks=1"]
    ahead.append("--rollout.replicas=1")
    process = start(command(manifest, BASE, run, *more, *ahead), log)
    try:
        assert process.wait(timeout=900) == 0, log.read_text()
        assert nothing_left(process.pid) == []
    finally:
        kill_session(process.pid)
    assert [m["update"] for m in lines(run, "metrics")] == list(range(4))
