"""The index of groups.jsonl: where each line is and what it amounts to. Texts stay in the file.

A run of 1,000 updates of 512 completions writes some hundreds of megabytes. They are read once, a line at a
time, into a table of a row a line; what a view shows of a single group is read from the file again.
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
"""Of every run; a column for each of its rewards follows. `score` and the rewards are means over the clean
copy's completions, NaN where nothing parsed; `characters` counts those of both copies' texts."""


class _Copy(msgspec.Struct):
    texts: list[str]
    scores: list[float | None]


def _line_type(rewards: Sequence[str]) -> type[msgspec.Struct]:
    """What the index takes from a line; msgspec skips the rest without building it."""
    values = list[float | None]
    clean = msgspec.defstruct(
        "Clean",
        [
            ("versions", list[list[int]]),
            (TOTAL, values),
            # A run that is older than a reward of the project has no values of it.
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
    """`rewards`: the run's, by name."""

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
        """A row for each line there is, superseded ones included."""
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
        """The whole record of a row."""
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
