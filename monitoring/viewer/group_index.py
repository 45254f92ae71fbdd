"""Index groups.jsonl: the byte offset and a numeric summary of each line. Texts are not kept in memory.

A run of 1,000 updates of 512 completions writes some hundreds of megabytes. The file is read once, line by
line, into a table with one row per line. The details of a single group are read from the file on request.
"""

import math
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from monitoring.viewer.growing import GrowingFile
from rewards.cohort import TOTAL

COLUMNS = (
    "offset", "size", "attempt", "update", "video", "worker", "mos", "trained", "completions", "unparsed",
    "score", "score_std", "perturbed_score", "oldest_version", "characters", TOTAL,
)  # fmt: skip
"""The columns of the table; one column per reward of the run follows. `score` and the rewards are means over
the completions for the clean copy, NaN if none parses. `characters` is the length of the texts for both
copies."""


class _Copy(msgspec.Struct):
    texts: list[str]
    scores: list[float | None]


def _line_type(rewards: Sequence[str]) -> type[msgspec.Struct]:
    """The type to decode a line to. It has only the fields that the index needs; msgspec skips the others."""
    values = list[float | None]
    clean = msgspec.defstruct(
        "Clean",
        [
            ("versions", list[list[int]]),
            (TOTAL, values),
            # Runs recorded before a built-in reward existed have no values for it.
            *((name, values, msgspec.field(default_factory=list)) for name in rewards),
        ],
        bases=(_Copy,),
        kw_only=True,
    )
    return msgspec.defstruct(
        "Line",
        [
            ("attempt", int), ("update", int), ("video_id", str), ("mos", float), ("status", str),
            ("worker", str), ("clean", clean), ("perturbed", _Copy | None, None),
        ],
    )  # fmt: skip


class GroupIndex:
    """The index of a groups.jsonl, updated as the file grows. `rewards` are the names of the run's
    rewards."""

    def __init__(self, path: Path, rewards: Sequence[str]) -> None:
        self._path = path
        self._rewards = tuple(rewards)
        self._columns = (*COLUMNS, *self._rewards)
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_line_type(self._rewards))
        self._file = GrowingFile(path, self._decoder.decode)
        self._clear()
        self._table = self._frame()

    def _clear(self) -> None:
        self._cells = array("d")
        self._videos: dict[str, int] = {}
        self._workers: dict[str, int] = {}

    @property
    def broken(self) -> int:
        return self._file.broken

    def read(self) -> pd.DataFrame:
        """Read the new lines; return a table with one row per line, including superseded lines."""
        if self._file.restarted():
            self._clear()
        for offset, size, line in self._file.new_records():
            self._cells.extend((offset, size, *self._row(line)))
        if len(self._cells) != self._table.size:
            self._table = self._frame()
        return self._table

    def _frame(self) -> pd.DataFrame:
        matrix = np.array(self._cells).reshape(-1, len(self._columns))
        table = pd.DataFrame(matrix, columns=list(self._columns))
        names = {"video": self._videos, "worker": self._workers}
        return table.assign(
            **{
                column: pd.Categorical.from_codes(table[column].astype(int), pd.Index(list(known), dtype=str))
                for column, known in names.items()
            }
        )

    def line(self, offset: int, size: int) -> dict[str, Any]:
        """Read the full record at `offset` with `size` bytes."""
        with self._path.open("rb") as file:
            file.seek(offset)
            return msgspec.json.decode(file.read(size))

    def _row(self, line: Any) -> tuple[float, ...]:
        clean, perturbed = line.clean, line.perturbed
        scores = [s for s in clean.scores if s is not None]
        score = _mean(scores)
        deviations = [(s - score) ** 2 for s in scores]
        variance = sum(deviations) / (len(scores) - 1) if len(scores) > 1 else 0.0
        return (
            line.attempt,
            line.update,
            self._videos.setdefault(line.video_id, len(self._videos)),
            self._workers.setdefault(line.worker, len(self._workers)),
            line.mos,
            line.status == "trained",
            len(clean.scores),
            len(clean.scores) - len(scores),
            score,
            math.sqrt(variance),
            _mean([s for s in perturbed.scores if s is not None]) if perturbed else math.nan,
            min((v for versions in clean.versions for v in versions), default=line.update),
            sum(map(len, clean.texts)) + (sum(map(len, perturbed.texts)) if perturbed else 0),
            *[_mean([v for v in getattr(clean, name) if v is not None]) for name in (TOTAL, *self._rewards)],
        )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
