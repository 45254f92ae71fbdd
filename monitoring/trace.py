"""Write a timeline of all actors as a file for ui.perfetto.dev and chrome://tracing.

The format is Chrome's "Trace Event Format": a JSON list of events.
"""

import json
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime.files import naming_file

_BEGIN, _BETWEEN, _END = b"[\n", b",\n", b"\n]\n"


class Trace:
    """Collects spans and appends them to a file on `flush`. If `path` is None, it does nothing.

    with trace.span("learner", "update 7"):
        ...
    trace.flush()

    The file is valid JSON after every flush. Each actor is shown as a process, and its concurrent spans as
    threads of that process.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._whole_bytes: int | None = None
        """Size of the file without the end of its list; None before the first flush."""
        self._events: list[dict[str, Any]] = []
        self._busy_until_s: dict[str, list[float]] = {}
        """For each actor, the end times of the last span of each of its threads."""

    @contextmanager
    def span(self, actor: str, name: str) -> Iterator[None]:
        """Record the `with` block as a span, even if it raises."""
        began_s = time.time()
        try:
            yield
        finally:
            self.add(actor, name, time.time() - began_s)

    def add(self, actor: str, name: str, seconds: float) -> None:
        """Record a span that lasted `seconds` and ends now."""
        if self._path is None:
            return
        ended_s = time.time()
        began_s = ended_s - seconds
        if actor not in self._busy_until_s:
            self._busy_until_s[actor] = []
            self._events.append(_event(actor, "process_name", "M", args={"name": actor}))
        threads = self._busy_until_s[actor]
        thread = next((n for n, until_s in enumerate(threads) if until_s <= began_s), len(threads))
        threads[thread : thread + 1] = [ended_s]
        times_us = {"ts": round(began_s * 1e6), "dur": round(seconds * 1e6)}
        self._events.append(_event(actor, name, "X", tid=thread, **times_us))

    def flush(self) -> None:
        """Append the collected spans to the file. Raises RunDirectoryError if it cannot be written."""
        if self._path is None or not self._events:
            return
        text = _BETWEEN.join(json.dumps(event).encode() for event in self._events)
        with naming_file(self._path):
            if self._whole_bytes is None:
                self._whole_bytes = _end_of_events(self._path)
            with self._path.open("r+b") as file:
                file.truncate(self._whole_bytes)
                file.seek(self._whole_bytes)
                file.write((_BETWEEN if self._whole_bytes else _BEGIN) + text)
                self._whole_bytes = file.tell()
                file.write(_END)
        self._events.clear()


def _event(actor: str, name: str, phase: str, tid: int = 0, **more: Any) -> dict[str, Any]:
    # Trace viewers need a numeric pid. A hash of the name is the same in every attempt of a run.
    return {"name": name, "ph": phase, "pid": zlib.crc32(actor.encode()) & 0x7FFFFFFF, "tid": tid, **more}


def _end_of_events(path: Path) -> int:
    """The byte offset at which the last complete event of an earlier attempt ends.

    A crash may have left an incomplete event, or no end of the list. Creates the file if it is missing.
    """
    path.touch()
    content = path.read_bytes()
    if content.endswith(_END):
        return len(content) - len(_END)
    return max(content.rfind(_BETWEEN), 0)
