"""Runs the steps in a process that can be killed, each with a deadline, and goes on after a failure.

A step that hangs, crashes or meets an error of CUDA costs its own lines: the process is ended and the next
step gets a new one. What libraries print goes to a file, whose end is shown when the process dies.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.gpu_smoke.report import Line, check, skip
from benchmarks.gpu_smoke.sizes import Setting

Work = Callable[[Setting], Iterator[Line]]
GRACE_S = 5.0
SHOWN_CHARACTERS = 500
LOG = "steps.log"


@dataclass(frozen=True, slots=True)
class Step:
    """`work` names a function of a module, such as "benchmarks.gpu_smoke.updates:faults", and is imported
    where it runs. `fresh` asks for a process in which nothing has run yet."""

    name: str
    work: str
    deadline_s: float
    fresh: bool = False


def run_steps(steps: Sequence[Step], setting: Setting, deadline_s: float) -> Iterator[tuple[Step, Line]]:
    """Every line of every step, as soon as it is known.

    Args:
        deadline_s: of all steps together; those that it leaves no time for are skipped.
    """
    ends_s = time.monotonic() + deadline_s
    worker: Worker | None = None
    try:
        for step in steps:
            left_s = ends_s - time.monotonic()
            if left_s <= 0:
                yield step, skip(step.name, f"no time was left of the {deadline_s:.0f} s for all steps")
                continue
            if worker is not None and step.fresh:
                worker.end()
                worker = None
            worker = worker or Worker(setting)
            healthy = yield from _one(step, worker, min(step.deadline_s, left_s))
            if not healthy:
                worker.end()
                worker = None
    finally:
        if worker is not None:
            worker.end()


def _one(step: Step, worker: Worker, deadline_s: float) -> Generator[tuple[Step, Line], None, bool]:
    """Lines of one step; returns whether the worker may run another."""
    ends_s = time.monotonic() + deadline_s
    worker.pipe.send(step.work)
    while True:
        if not worker.pipe.poll(max(0.0, ends_s - time.monotonic())):
            yield step, check(False, step.name, f"did not end within {deadline_s:.0f} s")
            return False
        try:
            line = worker.pipe.recv()
        except EOFError:
            worker.process.join(GRACE_S)
            code = worker.process.exitcode
            yield step, check(False, step.name, f"its process ended with {code}: {worker.last_words()}")
            return False
        if not isinstance(line, Line):
            return bool(line)
        yield step, line


class Worker:
    """A process that runs steps, one at a time."""

    def __init__(self, setting: Setting) -> None:
        context = mp.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._log = setting.folder / LOG
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs, setting, self._log))
        self.process.start()
        theirs.close()

    def last_words(self) -> str:
        return " ".join(self._log.read_text(errors="replace")[-SHOWN_CHARACTERS:].split())

    def end(self) -> None:
        """Ask it to end, and kill it if it does not."""
        self.pipe.close()
        self.process.join(GRACE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _serve(pipe: Connection, setting: Setting, log: Path) -> None:
    """Answers each step's name with its lines, then with whether it came to its end."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(handle, stream.fileno())
    try:
        while True:
            ended = True
            work = pipe.recv()
            try:
                for line in _load(work)(setting):
                    pipe.send(line)
            except Exception as error:
                ended = False
                traceback.print_exc()
                what = f"{type(error).__name__}: {' '.join(str(error).split())[:SHOWN_CHARACTERS]}"
                pipe.send(check(False, work.partition(":")[2], what, traceback=traceback.format_exc()))
            pipe.send(ended)
    except (EOFError, BrokenPipeError):
        # Communicators that end in the interpreter's last moments can abort or hang it.
        os._exit(0)


def _load(work: str) -> Work:
    import importlib

    module, _, name = work.partition(":")
    loaded: Work = getattr(importlib.import_module(module), name)
    return loaded
