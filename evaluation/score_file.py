"""Scores as rows of a file: appended as they come, and gone on with after any interruption.

    x.csv                     rows; lists are JSON inside their cell
    x.jsonl                   the same rows, one JSON object a line
    x.parquet                 the same rows, written at the end out of x.parquet.jsonl, which collects them
    x.*.settings.json         what the rows were made with; rows of other settings never join them

A process that is killed in the middle of a row leaves a row without its end, which is cut off when the file
is opened again.
"""

import csv
import fcntl
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from evaluation.score_rows import COLUMNS, LIST_COLUMNS, Key, key_of
from runtime.errors import ConfigError
from runtime.files import write_atomically

SUFFIXES = (".csv", ".jsonl", ".parquet")
_PARQUET_BATCH_ROWS = 10_000

# 64 answers in one cell are longer than the 131,072 characters that csv reads unless it is told otherwise.
csv.field_size_limit(sys.maxsize)


class OutputError(ConfigError):
    """The output cannot be written, or holds something else; says what to do."""


class ScoreFile:
    """See the module's docstring.

        with ScoreFile(Path("x.csv"), settings) as file:
            if key not in file.done:
                file.append(row)

    `settings` is what scores depend on, as JSON values.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Raises OutputError for a name that tells no known form."""
        if path.suffix not in SUFFIXES:
            raise OutputError(f"--out {path}: give a name that ends in {', '.join(SUFFIXES)}")
        self.path = path
        self._is_csv = path.suffix == ".csv"
        self._rows_path = path.with_name(path.name + ".jsonl") if path.suffix == ".parquet" else path
        self._settings_path = path.with_name(path.name + ".settings.json")
        self._settings = dict(settings)
        self.done: set[Key] = set()
        """Videos, or windows of one, that have their row."""

    def __enter__(self) -> "ScoreFile":
        """Raises OutputError if rows are there that were made with other settings, or by somebody else."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = self._rows_path.open("a+b")
        except OSError as error:
            raise OutputError(f"--out {self.path}: {error.strerror}; give another --out") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._check_settings()
            self._file.seek(0)
            end = 0
            for record in _whole_records(self._file, self._is_csv):
                end += len(record)
                if not (self._is_csv and end == len(record)):  # a CSV's first record is its header
                    self.done.add(key_of(self._parse(record)))
            self._file.truncate(end)
            if self._is_csv and end == 0:
                self._write(_csv_line(COLUMNS))
        except BlockingIOError:
            self._file.close()
            raise OutputError(
                f"--out {self.path}: another process is writing to it; wait for its end"
            ) from None
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None and self.path != self._rows_path:
            _write_parquet(self.rows(), self.path)

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row (see `score_rows.row_of`); it is in the file when this returns."""
        if self._is_csv:
            cells = [
                json.dumps(row[name], ensure_ascii=False) if name in LIST_COLUMNS else row[name]
                for name in COLUMNS
            ]
            self._write(_csv_line(cells))
        else:
            self._write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        self.done.add(key_of(row))

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows in the file, one after the other. A CSV's cells are text."""
        with self._rows_path.open("rb") as file:
            records = _whole_records(file, self._is_csv)
            if self._is_csv:
                next(records)
            for record in records:
                yield self._parse(record)

    def _write(self, text: str) -> None:
        self._file.write(text.encode())
        self._file.flush()

    def _parse(self, record: bytes) -> dict[str, Any]:
        if self._is_csv:
            (cells,) = csv.reader(io.StringIO(record.decode(), newline=""))
            return dict(zip(COLUMNS, cells, strict=True))
        return json.loads(record)

    def _check_settings(self) -> None:
        is_empty = self._rows_path.stat().st_size == 0
        if is_empty and (self._rows_path == self.path or not self.path.exists()):
            write_atomically(self._settings_path, json.dumps(self._settings, indent=2) + "\n")
            return
        try:
            before = json.loads(self._settings_path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            before = None
        if before is None or is_empty:
            raise OutputError(
                f"--out {self.path} is there already and cannot be gone on with: what collects its rows, or "
                f"their settings, is missing; remove it, or give another --out"
            )
        changed = [
            f"{name} was {before.get(name)!r} and is {self._settings.get(name)!r}"
            for name in before | self._settings
            if before.get(name) != self._settings.get(name)
        ]
        if changed:
            raise OutputError(
                f"--out {self.path} holds scores that were made otherwise: {'; '.join(changed)}. "
                f"Go on with what it was made with, or give another --out"
            )


def _whole_records(file: BinaryIO, is_csv: bool) -> Iterator[bytes]:
    """The records up to the first that lacks its end. A line break inside a CSV's quotes ends none."""
    record = b""
    for line in file:
        record += line
        if not line.endswith(b"\n"):
            return
        if is_csv and record.count(b'"') % 2:
            continue
        yield record
        record = b""


def _csv_line(cells: Sequence[Any]) -> str:
    # With \r\n as the end of a line, the writer puts cells with either character in quotes.
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue()


def _write_parquet(rows: Iterator[dict[str, Any]], path: Path) -> None:
    """Batch by batch, so that memory does not grow with the rows; the file appears whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from evaluation.score_rows import parquet_schema

    unfinished = path.with_name(f".{path.name}.unfinished")
    schema = parquet_schema()
    with pq.ParquetWriter(unfinished, schema) as writer:
        while batch := list(islice(rows, _PARQUET_BATCH_ROWS)):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
    unfinished.replace(path)
