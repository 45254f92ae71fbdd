"""Finding the processes of a run, hurting them, and what must hold of the run's folder afterwards."""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.runs import lines


def start(arguments: list[str], log: Path) -> subprocess.Popen[str]:
    """A command in a session of its own, so that all of its processes can be found."""
    return subprocess.Popen(
        arguments, stdout=log.open("a"), stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def session_processes(session: int) -> Iterator[tuple[int, str]]:
    """Process id and title of each process in a session that is alive."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_text()
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            yield int(folder.name), title


def actors(session: int, name: str) -> list[int]:
    """Process ids of the Ray actors of class `name` in a session."""
    return [pid for pid, title in session_processes(session) if title.startswith(f"ray::{name}")]


def kill_session(session: int) -> int:
    """SIGKILL for every process of a session, those that are being started included; how many there were."""
    killed: set[int] = set()
    while found := {pid for pid, _ in session_processes(session)}:
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        killed |= found
        time.sleep(0.05)
    return len(killed)


def recorded_updates(run: Path) -> int:
    """Updates that the run's folder tells of, as far as no later attempt superseded them."""
    return len(lines(run, "metrics")) if (run / "metrics.jsonl").exists() else 0


def wait_for_updates(run: Path, process: subprocess.Popen[str], n: int, timeout_s: float = 900) -> None:
    deadline = time.monotonic() + timeout_s
    while recorded_updates(run) < n:
        assert process.poll() is None, "the run ended by itself"
        assert time.monotonic() < deadline, f"no {n} updates within {timeout_s} s"
        time.sleep(0.1)


def fates(run: Path) -> Counter[tuple[int, str]]:
    """How often each (epoch, video) ended: trained, skipped or failed."""
    ends = [*lines(run, "groups"), *lines(run, "failures")]
    return Counter((end["epoch"], end["video_id"]) for end in ends)


def told(run: Path, name: str) -> list[dict[str, Any]]:
    """All records of NAME.jsonl, superseded ones included."""
    path = run / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
