"""Find the runs that the page shows, and give each a name. A browser can request runs only by these names."""

import threading
from collections.abc import Sequence
from pathlib import Path

from monitoring.viewer.viewed_run import NotRecorded, ViewedRun, holds_run
from runtime.errors import RunDirectoryError


class Catalogue:
    """The runs named on the command line or, if there are none, all runs in a folder, including later ones.

    Raises RunDirectoryError if a name is not a run, or the folder has no runs.
    """

    def __init__(self, named: Sequence[str], folder: Path = Path("runs")) -> None:
        self._folder = folder
        self._named = [_find(name, folder) for name in named]
        self._lock = threading.Lock()
        self._runs: dict[str, ViewedRun] = {}
        if not self.runs():
            raise RunDirectoryError(
                f"{folder.absolute()} holds no run yet: start one with `launch.py train`, or name a run"
            )

    def runs(self) -> dict[str, ViewedRun]:
        """The runs by name: in the order of the command line, or the runs of the folder, newest first."""
        with self._lock:
            known = {run.path for run in self._runs.values()}
            for path in self._named or _runs_in(self._folder):
                if path not in known:
                    self._runs[_free_name(path.name, self._runs)] = ViewedRun(path)
                    known.add(path)
            if self._named:
                return dict(self._runs)
            there = [(name, run) for name, run in self._runs.items() if holds_run(run.path)]
        return dict(sorted(there, key=lambda item: item[1].started(), reverse=True))

    def __getitem__(self, name: str) -> ViewedRun:
        """Raises NotRecorded for a name that is not shown."""
        run = self._runs.get(name)
        if run is None:
            raise NotRecorded(f"no run '{name}' is shown here")
        return run


def _find(name: str, folder: Path) -> Path:
    for path in (Path(name), folder / name):
        if path.is_dir() and holds_run(path):
            return path.resolve()
    reason = "is not a run directory (no run.json)" if Path(name).is_dir() else "does not exist"
    known = ", ".join(path.name for path in _runs_in(folder)) or "none"
    raise RunDirectoryError(f"{name} {reason}; runs in {folder.absolute()}: {known}")


def _runs_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path.resolve() for path in folder.iterdir() if path.is_dir() and holds_run(path))


def _free_name(name: str, taken: dict[str, ViewedRun]) -> str:
    number, free = 2, name
    while free in taken:
        number, free = number + 1, f"{name} ({number})"
    return free
