"""Workers leave a node that is about to be taken away, and lose nothing."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rollout import draining
from rollout.draining import seconds_left, watch_drains
from tests.draining_cluster import UPDATES
from tests.faults import fates, told
from tests.runs import ROOT, lines


def test_a_worker_has_until_shortly_before_its_node_goes() -> None:
    now_s = 1000.0
    assert seconds_left(0, now_s, at_most_s=600) == 600, "no time was given"
    assert seconds_left(1_120_000, now_s, at_most_s=600) == 120 - draining.LAST_S
    assert seconds_left(9_000_000, now_s, at_most_s=600) == 600
    assert seconds_left(1_000_000, now_s, at_most_s=600) == 0


def test_workers_on_draining_nodes_are_moved_once() -> None:
    workers = {"a": ["rollout-0", "rollout-2"], "b": ["rollout-1"]}
    answers: Iterator[dict[str, int]] = iter([{}, {"a": 0}, {"a": 0}, {"a": 0, "gone": 5}])
    moved: list[tuple[str, float]] = []

    async def move(worker_id: str, finish_s: float) -> None:
        moved.append((worker_id, finish_s))
        workers["a"].remove(worker_id)

    async def watch() -> None:
        watching = watch_drains(
            lambda node: list(workers.get(node, [])),
            move,
            600.0,
            nodes=lambda: next(answers, {}),
            every_s=0.01,
        )
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watching, 2)

    asyncio.run(watch())
    assert next(answers, None) is None, "it has looked often enough"
    assert moved == [("rollout-0", 600.0), ("rollout-2", 600.0)]


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(900)
def test_a_node_marked_for_removal_is_left_without_a_loss(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-m", "tests.draining_cluster", str(run)],
        cwd=ROOT, capture_output=True, text=True, timeout=800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert set(fates(run)) == {(0, f"v{i}") for i in range(4 * UPDATES)}
    assert set(fates(run).values()) == {1}
    assert lines(run, "failures") == []
    (fault,) = told(run, "faults")
    assert fault["actor"] == "rollout-0"
    assert "draining" in fault["reason"]
    (recovery,) = told(run, "recoveries")
    assert (recovery["actor"], recovery["successor"]) == ("rollout-0", "rollout-2")
    assert {g["worker"] for g in lines(run, "groups")} == {"rollout-0", "rollout-1", "rollout-2"}
    assert lines(run, "groups")[-1]["worker"] != "rollout-0"
    assert set(seen["before"]) == {"rollout-0", "rollout-1"}
    assert set(seen["after"]) == {"rollout-1", "rollout-2"}
    assert seen["drained"] not in seen["after"].values()
