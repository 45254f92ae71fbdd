"""The timeline of a run as Chrome's trace events."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from monitoring.trace import Trace
from tests.fakes import job, run_job


def spans(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The complete events of a trace by their actor; checks what the format asks of all events."""
    events = json.loads(path.read_text())
    names = {e["pid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "process_name"}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names.values()}
    for event in events:
        assert {"name", "ph", "pid", "tid"} <= event.keys()
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        if event["ph"] == "X":
            assert event["ts"] > 0
            assert event["dur"] >= 0
            found[names[event["pid"]]].append(event)
    return found


def test_a_run_writes_what_each_actor_did(tmp_path: Path) -> None:
    run, _, _ = run_job(job("--metrics.trace=true"), tmp_path / "run")
    found = spans(run.trace)
    assert {"decoding", "fake-0", "rewards", "learner", "weights", "evaluation"} == set(found)
    assert [e["name"] for e in found["learner"] if e["name"].startswith("update")] == [
        f"update {u}" for u in range(10)
    ]
    assert len(found["fake-0"]) == 2 * 17, "two epochs of the videos that can be read and sampled"


def test_there_is_no_trace_unless_asked_for(tmp_path: Path) -> None:
    run, _, _ = run_job(job(), tmp_path / "run")
    assert not run.trace.exists()


def test_what_an_actor_does_at_once_is_on_several_threads(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "trace.json")
    for seconds in (0.5, 1.0, 1.5, 0.0):
        trace.add("rollout-0", "video", seconds)
    trace.flush()
    by_thread: dict[int, list[dict[str, Any]]] = {}
    for event in sorted(spans(tmp_path / "trace.json")["rollout-0"], key=lambda e: e["ts"]):
        by_thread.setdefault(event["tid"], []).append(event)
    assert len(by_thread) == 3
    for own in by_thread.values():
        assert all(a["ts"] + a["dur"] <= b["ts"] for a, b in pairwise(own))


def test_a_trace_goes_on_after_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    first = Trace(path)
    for name in ("a", "b"):
        first.add("learner", name, 0.1)
        first.flush()
    path.write_bytes(path.read_bytes().removesuffix(b"\n]\n") + b',\n{"name": "bro')
    second = Trace(path)
    second.add("learner", "c", 0.1)
    second.flush()
    assert [e["name"] for e in spans(path)["learner"]] == ["a", "b", "c"]
