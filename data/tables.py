"""Reads and writes tables as CSV, JSON lines or Parquet, selected by the file's suffix."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    # Read all cells as text, so that a name made of digits keeps its leading zeros.
    ".csv": lambda path: pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""]),
    ".jsonl": lambda path: pd.read_json(path, lines=True, dtype=False),
    ".parquet": pd.read_parquet,
}
_WRITERS: dict[str, Callable[[pd.DataFrame, Path], object]] = {
    ".csv": lambda table, path: table.to_csv(path, index=False),
    ".jsonl": lambda table, path: table.to_json(path, orient="records", lines=True, force_ascii=False),
    ".parquet": lambda table, path: table.to_parquet(path, index=False),
}
SUFFIXES = tuple(_READERS)
_LISTED_PROBLEMS = 20


class TableError(ValueError):
    """A table, or its input, cannot be used. The message names the file and the fix."""


def read_table(path: Path) -> pd.DataFrame:
    """Read the table in `path`. A CSV's cells are text or missing. Raises TableError."""
    check_table_name(path)
    try:
        return _READERS[path.suffix](path)
    except (ValueError, OSError) as error:
        raise TableError(f"{path}: cannot be read as {path.suffix[1:]}: {error}") from None


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write `table` in the format of the file's suffix, atomically. Raises TableError."""
    check_table_name(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    _WRITERS[path.suffix](table, unfinished)
    unfinished.replace(path)


def listed(path: Path, problems: Sequence[str]) -> str:
    """Return an error message that lists the first problems of a file, one per line."""
    shown = problems[:_LISTED_PROBLEMS]
    rest = [f"and {len(problems) - len(shown)} more"] if len(problems) > len(shown) else []
    return "\n  ".join([f"{path}:", *shown, *rest])


def check_table_name(path: Path) -> None:
    """Raise TableError if the suffix of `path` is not one of `SUFFIXES`."""
    if path.suffix not in _READERS:
        raise TableError(f"{path}: a table is a .csv, .jsonl or .parquet file, not '{path.suffix}'")
