"""Carrying out the runs of the study, one after the other, each in processes of its own."""

import fcntl
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.study import results
from benchmarks.study.arms import ARMS, PRESET, Run

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 2.0
RUN_TIMEOUT_S = 3600.0
STOP_TIMEOUT_S = 180.0
LOG_TAIL_LINES = 15
# Two cores with nothing else to do; until a run has shown how long it takes.
EXPECTED_START_S, EXPECTED_UPDATE_S, EXPECTED_SUPERVISED_S = 120.0, 3.5, 300.0


class StudyError(RuntimeError):
    """A run failed or cannot go on; says which, and what to do."""


class State(Enum):
    FINISHED = "its result is there"
    COLLECT = "it is trained, its result is not there yet"
    RESUME = "it was begun"
    START = "nothing of it is there"


@dataclass(frozen=True, slots=True)
class Study:
    """Where the study's runs (`out`) and their results are, and how long a run trains."""

    out: Path
    results: Path
    updates: int
    ladders: Path

    def folder(self, run: Run) -> Path:
        return self.out / run.name

    def result(self, run: Run) -> Path:
        return self.results / f"{run.name}.json"

    def command(self, run: Run, resume: bool = False) -> list[str]:
        """What carries a run out, from the project's folder."""
        folder = str(self.folder(run))
        if run.arm.supervised:
            return [
                *("python", "-m", "benchmarks.study.supervised"),
                *(f"--preset={PRESET}", f"--seed={run.seed}", f"--out={folder}", *run.arm.settings),
            ]
        if resume:
            return ["python", "launch.py", "train", "--resume", f"--run_dir={folder}"]
        overrides = run.overrides(self.updates, self.ladders)
        return ["python", "launch.py", "train", str(PRESET), *overrides, f"--run_dir={folder}"]

    def state(self, run: Run) -> State:
        """How far a run is. Raises StudyError if what is there of it was made with other settings."""
        command = self.command(run)
        made_by = self._made_by(run)
        for path, other in made_by.items():
            if other != command:
                raise StudyError(
                    f"{path} was made with other settings ({shlex.join(other)}): remove it, or name other "
                    f"folders with --out and --results"
                )
        folder = self.folder(run)
        if self.result(run) in made_by:
            return State.FINISHED
        if (folder / "summary.json").exists():
            return State.COLLECT
        return State.RESUME if (folder / "run.json").exists() else State.START

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others out of the folder of the runs. Raises StudyError if one is there already."""
        self.out.mkdir(parents=True, exist_ok=True)
        with (self.out / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StudyError(
                    f"another study is at work in {self.out}: wait for it, or give --out"
                ) from None
            yield

    def carry_out(self, run: Run, on_update: Callable[[int], None]) -> dict[str, Any]:
        """Train, if there is anything left to train, and write the result, which is returned.

        `on_update` is told of the number of updates done. An interruption ends the run with a checkpoint
        before it is passed on. Raises StudyError.
        """
        state, folder = self.state(run), self.folder(run)
        if state in (State.START, State.RESUME):
            self._command_file(run).write_text(shlex.join(self.command(run)) + "\n")
            log = folder.with_name(f"{run.name}.log")
            _execute(self.command(run, resume=state is State.RESUME), log, folder, on_update)
            if not (folder / "summary.json").exists():
                raise StudyError(f"{run.name} was stopped before its end; the same command goes on with it")
        result = results.collect(run, folder, self.command(run))
        results.write(result, self.result(run))
        return result

    def _command_file(self, run: Run) -> Path:
        return self.folder(run).with_name(f"{run.name}.command")

    def _made_by(self, run: Run) -> dict[Path, list[str]]:
        """The commands by which what is there of a run was made."""
        found = {}
        if self.result(run).exists():
            found[self.result(run)] = results.read(self.result(run))["command"]
        if self._command_file(run).exists() and self.folder(run).exists():
            found[self.folder(run)] = shlex.split(self._command_file(run).read_text())
        return found


def expected_s(run: Run, updates: int, known: Sequence[Mapping[str, Any]]) -> float:
    """About how long a run will take: as runs of its arm did, else as others did, else a guess."""
    of_arm = [r["seconds"] for r in known if r["arm"] == run.arm.name]
    if of_arm:
        return mean(of_arm)
    if run.arm.supervised:
        return EXPECTED_SUPERVISED_S
    trained = [r["seconds"] for r in known if not ARMS[r["arm"]].supervised]
    return mean(trained) if trained else EXPECTED_START_S + updates * EXPECTED_UPDATE_S


def _execute(command: Sequence[str], log: Path, folder: Path, on_update: Callable[[int], None]) -> None:
    deadline = time.monotonic() + RUN_TIMEOUT_S
    with log.open("a") as output:
        # A session of its own: Ctrl-C is for the study, which passes it on once.
        process = subprocess.Popen(
            [sys.executable, *command[1:]],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                if time.monotonic() > deadline:
                    raise StudyError(f"{shlex.join(command)}: not done within {RUN_TIMEOUT_S:g} s, see {log}")
                time.sleep(POLL_S)
                on_update(_lines(folder / "metrics.jsonl"))
        finally:
            _stop(process)
    if process.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
        raise StudyError(
            f"{shlex.join(command)} ended with code {process.returncode}; the end of {log}:\n{tail}"
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a run that goes on to end with a checkpoint, and end it by force if it does not."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
