"""A file of scores: rows are appended one by one, and an interrupted job resumes after the last row.

    x.csv                     one row per video; a list is stored as JSON in its cell
    x.jsonl                   the same rows, one JSON object per line
    x.parquet                 the same rows, written at the end from x.parquet.jsonl, where they are appended
    x.*.settings.json         the settings that affect the rows; a job with other settings raises OutputError

A row that a killed process left incomplete is removed when the file is opened again.
"""

import contextlib
import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from evaluation.row_file import (
    OutputError,
    check_settings,
    json_line,
    open_locked,
    whole_records,
    write_settings,
)
from evaluation.score_rows import COLUMNS, LIST_COLUMNS, Key, key_of

SUFFIXES = (".csv", ".jsonl", ".parquet")
_PARQUET_BATCH_ROWS = 10_000

# A cell can hold 64 answers, which exceed csv's default limit of 131,072 characters.
csv.field_size_limit(sys.maxsize)


class ScoreFile:
    """A file of scores, for one process at a time; the module's docstring describes its formats.

        with ScoreFile(Path("x.csv"), settings) as file:
            if key not in file.done:
                file.append(row)

    `settings` are the settings that affect scores, as JSON values.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Raises OutputError for an unknown suffix."""
        if path.suffix not in SUFFIXES:
            raise OutputError(f"--out {path}: give a name that ends in {', '.join(SUFFIXES)}")
        self.path = path
        self._is_csv = path.suffix == ".csv"
        self._rows_path = path.with_name(path.name + ".jsonl") if path.suffix == ".parquet" else path
        self._settings = settings
        self._exit = contextlib.ExitStack()
        self.done: set[Key] = set()
        """Keys of the rows in the file: videos, or windows of one video."""

    def __enter__(self) -> "ScoreFile":
        """Raises OutputError if the file is in use, or has rows of other settings or of another program."""
        with contextlib.ExitStack() as opened:
            self._file = opened.enter_context(open_locked(self._rows_path, self.path))
            self._check_settings()
            self._file.seek(0)
            end = 0
            for record in whole_records(self._file, self._is_csv):
                end += len(record)
                if not (self._is_csv and end == len(record)):  # a CSV's first record is its header
                    self.done.add(key_of(self._parse(record)))
            self._file.truncate(end)
            if self._is_csv and end == 0:
                self._write(_csv_line(COLUMNS))
            self._exit = opened.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._exit.close()
        if kind is None and self.path != self._rows_path:
            _write_parquet(self.rows(), self.path)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a row (see `score_rows.row_of`) to the file, and flush it."""
        if self._is_csv:
            cells = [
                json.dumps(row[name], ensure_ascii=False) if name in LIST_COLUMNS else row[name]
                for name in COLUMNS
            ]
            self._write(_csv_line(cells))
        else:
            self._write(json_line(row))
        self.done.add(key_of(row))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows in the file. The values of a CSV file are strings."""
        with self._rows_path.open("rb") as file:
            records = whole_records(file, self._is_csv)
            if self._is_csv:
                next(records)
            yield from map(self._parse, records)

    def _write(self, text: str) -> None:
        self._file.write(text.encode())
        self._file.flush()

    def _parse(self, record: bytes) -> dict[str, Any]:
        if self._is_csv:
            (cells,) = csv.reader(io.StringIO(record.decode(), newline=""))
            return dict(zip(COLUMNS, cells, strict=True))
        return json.loads(record)

    def _check_settings(self) -> None:
        stamp = self.path.with_name(self.path.name + ".settings.json")
        has_rows = self._rows_path.stat().st_size > 0
        if not has_rows and (self._rows_path == self.path or not self.path.exists()):
            write_settings(stamp, self._settings)
        elif has_rows and stamp.exists():
            check_settings(stamp, self._settings, self.path)
        else:
            raise OutputError(
                f"--out {self.path} exists and cannot be resumed: its rows or its settings file are missing; "
                f"remove it, or give another --out"
            )


def _csv_line(cells: Sequence[Any]) -> str:
    # With \r\n as the line terminator, csv quotes every cell that contains \r or \n.
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue()


def _write_parquet(rows: Iterator[dict[str, Any]], path: Path) -> None:
    """Write rows in batches, to bound memory, to a temporary file; rename it to `path` when complete."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from evaluation.score_rows import parquet_schema

    unfinished = path.with_name(f".{path.name}.unfinished")
    schema = parquet_schema()
    with pq.ParquetWriter(unfinished, schema) as writer:
        while batch := list(islice(rows, _PARQUET_BATCH_ROWS)):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
    unfinished.replace(path)
