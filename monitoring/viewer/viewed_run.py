"""Read a run directory for the viewer while it grows. Missing files and superseded records are skipped."""

import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from monitoring.run_dir import RunDirectory, superseded_from
from monitoring.viewer.group_index import GroupIndex
from monitoring.viewer.growing import Records
from rewards.registry import BUILT_IN

_RECORDS: dict[str, dict[str, type]] = {
    "metrics": {"update": int},
    "evaluations": {"update": int, "version": int, "split": str},
    "failures": {"update": int},
    "marks": {"update": int, "marks": dict},
    "faults": {},
}
_FILES = ("run.json", "config.json", "groups.jsonl", "summary.json", *(f"{name}.jsonl" for name in _RECORDS))


class NotRecorded(LookupError):
    """The run has no such update, row or evaluation. The message says which."""


def holds_run(path: Path) -> bool:
    """Whether a folder is a run directory; the run need not be finished."""
    return any((path / name).is_file() for name in ("run.json", "config.json", "metrics.jsonl"))


class ViewedRun:
    """A run directory that may still grow. It may be read from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._run = RunDirectory(path)
        self._lock = threading.RLock()
        self._records = {name: Records(path / f"{name}.jsonl", fields) for name, fields in _RECORDS.items()}
        self._groups: GroupIndex | None = None

    def config(self) -> dict[str, Any]:
        """The run's configuration; empty if the file is missing or invalid."""
        return _read_object(self.path / "config.json")

    def rewards(self) -> dict[str, str]:
        """The description of each reward of the run, by name; the built-in rewards if run.json has none."""
        recorded = _read_object(self.path / "run.json").get("rewards")
        if not isinstance(recorded, list):
            return {reward.name: reward.description for reward in BUILT_IN}
        return {
            str(r["name"]): str(r.get("description", ""))
            for r in recorded
            if isinstance(r, dict) and "name" in r
        }

    def records(self, name: str) -> list[dict[str, Any]]:
        """The records of NAME.jsonl that no later attempt superseded."""
        starts = self._starts()
        with self._lock:
            return [
                record
                for record in self._records[name].read()
                if "update" not in record or record["update"] < superseded_from(starts, record["attempt"])
            ]

    def groups(self) -> pd.DataFrame:
        """The rows of GroupIndex whose groups no later attempt superseded."""
        starts = self._starts()
        with self._lock:
            # run.json lists the rewards before the first group is written.
            self._groups = self._groups or GroupIndex(self.path / "groups.jsonl", list(self.rewards()))
            table = self._groups.read()
        if len(starts) < 2:
            return table
        limits = np.array([superseded_from(starts, attempt) for attempt in range(len(starts))])
        attempts = np.minimum(table["attempt"].astype(int), len(starts) - 1)
        return table[table["update"] < limits[attempts]]

    def group(self, offset: int) -> dict[str, Any]:
        """The record that starts at byte `offset` of groups.jsonl. Raises NotRecorded if there is none."""
        table = self.groups()
        found = table[table["offset"] == offset]
        if found.empty:
            raise NotRecorded(f"{self.path.name} has no group at byte {offset} of groups.jsonl")
        assert self._groups is not None
        return self._groups.line(offset, int(found["size"].iloc[0]))

    def predictions(self, version: int, split: str) -> list[dict[str, Any]]:
        """The predictions of an evaluation. Invalid lines are skipped.

        Raises NotRecorded if the run has no evaluation of that version on that split.
        """
        evaluated = {(e["version"], e["split"]) for e in self.records("evaluations")}
        if (version, split) not in evaluated:
            raise NotRecorded(f"{self.path.name} has no evaluation of version {version} on '{split}'")
        name = f"v{version:06d}-{split}.jsonl"
        paths = [path for path in self._run.predictions.glob("v*.jsonl") if path.name == name]
        if not paths:
            raise NotRecorded(f"{self.path.name}: predictions/{name} is missing")
        return [record for line in paths[0].read_bytes().splitlines() if (record := _decode_object(line))]

    def revision(self) -> str:
        """A string that changes whenever a file of the run changes."""
        return "-".join(f"{size:x}.{changed:x}" for size, changed in map(self._stat, _FILES))

    def modified(self) -> float:
        """The Unix time of the run's last write, in seconds; 0 if it has written nothing."""
        return max(changed for _, changed in map(self._stat, _FILES)) / 1e9

    def started(self) -> float:
        """The Unix time in seconds at which the first attempt started; if unknown, that of the last write."""
        attempts = self._attempts()
        return float(attempts[0].get("started", 0.0)) if attempts else self.modified()

    def finished(self) -> bool:
        return (self.path / "summary.json").is_file()

    def broken_lines(self) -> int:
        """The number of lines read so far that are not valid records."""
        broken_groups = self._groups.broken if self._groups else 0
        return broken_groups + sum(records.broken for records in self._records.values())

    def _attempts(self) -> list[dict[str, Any]]:
        attempts = _read_object(self.path / "run.json").get("attempts", [])
        return [a for a in attempts if isinstance(a, dict) and isinstance(a.get("from_version"), int)]

    def _starts(self) -> list[int]:
        return [attempt["from_version"] for attempt in self._attempts()]

    def _stat(self, name: str) -> tuple[int, int]:
        try:
            stat = (self.path / name).stat()
        except OSError:
            return 0, 0
        return stat.st_size, stat.st_mtime_ns


def _read_object(path: Path) -> dict[str, Any]:
    try:
        return _decode_object(path.read_bytes())
    except OSError:
        return {}


def _decode_object(text: bytes) -> dict[str, Any]:
    """Decode a JSON object; return an empty one if `text` is not a JSON object."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
