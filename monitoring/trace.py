"""When each actor did what, as a file that ui.perfetto.dev and chrome://tracing open.

The format is Chrome's "Trace Event Format", a list of events.
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
    """Collects spans and appends them to a file when it is flushed; without a file it does nothing.

    with trace.span("learner", "update 7"):
        ...
    trace.flush()

    The file is whole JSON after every flush. Every actor is a process of the trace; what it does at the same
    time is on several of its threads.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._whole_bytes: int | None = None
        """Of the file, up to the end of its list; unknown before the first flush."""
        self._events: list[dict[str, Any]] = []
        self._busy_until_s: dict[str, list[float]] = {}
        """By actor, when the last span of each of its threads ended."""

    @contextmanager
    def span(self, actor: str, name: str) -> Iterator[None]:
        """Whatever is inside, up to its end or its failure."""
        began_s = time.time()
        try:
            yield
        finally:
            self.add(actor, name, time.time() - began_s)

    def add(self, actor: str, name: str, seconds: float) -> None:
        """A span that ends here."""
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
        """Append what has been collected. Raises RunDirectoryError if the storage does not take it."""
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
    # Viewers want a number, and every attempt of a run the same one.
    return {"name": name, "ph": phase, "pid": zlib.crc32(actor.encode()) & 0x7FFFFFFF, "tid": tid, **more}


def _end_of_events(path: Path) -> int:
    """Where the last whole event of an earlier attempt ends. A crash may have left a part of one, and no end
    of the list. The file is there afterwards."""
    path.touch()
    content = path.read_bytes()
    if content.endswith(_END):
        return len(content) - len(_END)
    return max(content.rfind(_BETWEEN), 0)
