"""Reads label files of benchmarks, as their authors distribute them, into one row per video.

Layouts, detected by the content of the file:
  list           {"annotations": [{"image_id": "a.mp4", "ann_type": "score", "score": "62.4"}, ...]}
  conversations  one JSON object per line, or a JSON list of them: {"image": ["a.mp4"], "conversations":
                 [{"from": "human", "value": question}, {"from": "gpt", "value": 2.61}]}
  table          CSV, JSON lines, Parquet or a JSON list of objects, with named columns; MATLAB (.mat) with
                 variables of equal length instead of columns
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from data.tables import TableError, listed, read_table

Layout = Literal["list", "conversations", "table"]
_LONGEST_VALUE = 60


class LabelError(TableError):
    """Labels cannot be used. The message names the file, the rows and the fix."""


@dataclass(frozen=True, slots=True)
class LabelRow:
    """The label of one video. `path` is the video's name in the label file. `score` is on the file's scale.
    `split` and `source` are empty if the file does not give them."""

    path: str
    score: float
    split: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of a table's columns. `path` and `score` list alternative names, of which the first that exists
    is read. Case, spaces and underscores are ignored. `only`: (column, value) that selects the rows to
    keep."""

    path: tuple[str, ...]
    score: tuple[str, ...]
    split: str = ""
    source: str = ""
    only: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Labels:
    """The rows of a label file, in the file's order."""

    layout: Layout
    rows: list[LabelRow]


def read_labels(path: Path, columns: Columns | None = None) -> Labels:
    """Read a label file.

    Args:
        columns: columns of a table; a file in another layout needs none.
    Raises:
        LabelError: if the file has none of the layouts, a label is not a number, or a video occurs twice.
    """
    if not path.is_file():
        raise LabelError(f"{path}: no such file; give the benchmark's label file with --labels")
    if path.suffix in (".json", ".jsonl"):
        content = _read_json(path)
        if isinstance(content, dict) and "annotations" in content:
            return Labels("list", _checked(path, _from_list(path, content["annotations"])))
        items = content if isinstance(content, list) else [content]
        if not all(isinstance(item, dict) for item in items):
            raise LabelError(f"{path}: contains neither 'annotations' nor one object a video")
        if items and all("conversations" in item for item in items):
            return Labels("conversations", _checked(path, _from_conversations(path, items)))
        table = pd.DataFrame(items)
    elif path.suffix == ".mat":
        table = _read_matlab(path)
    else:
        try:
            table = read_table(path)
        except TableError as error:
            raise LabelError(f"{error}; save the labels as CSV") from None
    if columns is None:
        raise LabelError(
            f"{path}: this set's labels are an annotation list or conversations, not a table; for a table of "
            f"your own: prepare table --path-column ... --mos-column ..."
        )
    return Labels("table", _checked(path, _from_table(path, table, columns)))


def _read_json(path: Path) -> Any:
    """Return the JSON value of the whole file, or a list of the values of its lines."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelError(f"{path}: is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        whole = error
    values = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            values += [json.loads(line)] if line.strip() else []
        except json.JSONDecodeError as error:
            reason = f"line {number} is not JSON: {error}" if values else f"is not JSON: {whole}"
            raise LabelError(f"{path}: {reason}") from None
    return values


def _read_matlab(path: Path) -> pd.DataFrame:
    """Return as columns those variables of a MATLAB file that have the largest number of entries."""
    from scipy.io import loadmat

    try:
        content = loadmat(str(path), squeeze_me=True, chars_as_strings=True)
    except (NotImplementedError, ValueError) as error:
        raise LabelError(f"{path}: cannot be read as MATLAB 5 to 7.2: {error}; save it as CSV") from None
    found = {name: np.atleast_1d(value) for name, value in content.items() if not name.startswith("__")}
    lists = {name: value for name, value in found.items() if value.ndim == 1}
    if not lists:
        raise LabelError(f"{path}: has no variable with a list; save the labels as CSV")
    longest = max(len(value) for value in lists.values())
    return pd.DataFrame({name: list(value) for name, value in lists.items() if len(value) == longest})


def _from_list(path: Path, annotations: Any) -> Iterable[tuple[Any, ...]]:
    if not isinstance(annotations, list):
        raise LabelError(f"{path}: 'annotations' is not a list")
    for number, item in enumerate(annotations, start=1):
        if not isinstance(item, dict):
            raise LabelError(
                f"{path}: entry {number} of 'annotations' is {_short(item)}: give an object with "
                f"image_id and score"
            )
        if item.get("ann_type", "score") == "score":
            yield item.get("image_id"), item.get("score"), None, None


def _from_conversations(path: Path, items: Sequence[Mapping[str, Any]]) -> Iterable[tuple[Any, ...]]:
    """Return each video with the value of its last turn that is not from a human."""
    for number, item in enumerate(items, start=1):
        turns = item["conversations"]
        if not (isinstance(turns, list) and all(isinstance(turn, dict) for turn in turns)):
            raise LabelError(
                f"{path}: 'conversations' of entry {number} is {_short(turns)}: give a list of objects "
                f"with from and value"
            )
        video = item.get("image", item.get("video"))
        if isinstance(video, Sequence) and not isinstance(video, str):
            video = video[0] if len(video) == 1 else None
        answers = [turn for turn in turns if turn.get("from") != "human"]
        yield video, answers[-1].get("value") if answers else None, item.get("split"), None


def _short(value: Any) -> str:
    """Return a JSON value as text, truncated for a message."""
    text = json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _from_table(path: Path, table: pd.DataFrame, columns: Columns) -> Iterable[tuple[Any, ...]]:
    known = {_plain(name): name for name in table.columns}

    def column(*names: str) -> pd.Series:
        found = [known[_plain(name)] for name in names if _plain(name) in known]
        if not found:
            wanted, has = " or ".join(f"'{n}'" for n in names), ", ".join(str(n) for n in table.columns)
            raise LabelError(
                f"{path}: has no column {wanted}; it has {has}. Name it: prepare table --path-column ... "
                f"--mos-column ..."
            )
        return table[found[0]]

    if columns.only is not None and _plain(columns.only[0]) in known:
        table = table[column(columns.only[0]).astype(str).str.lower() == columns.only[1]]
    parts = [column(name) if name else [None] * len(table) for name in (columns.split, columns.source)]
    return zip(column(*columns.path), column(*columns.score), *parts, strict=True)


def _plain(name: Any) -> str:
    return str(name).lower().replace(" ", "").replace("_", "")


def _checked(path: Path, raw: Iterable[tuple[Any, ...]]) -> list[LabelRow]:
    rows: list[LabelRow] = []
    problems: list[str] = []
    first: dict[str, int] = {}
    for number, (video, score, split, source) in enumerate(raw, start=1):
        name, value = _text(video), _number(score)
        if not name:
            problems.append(f"label {number}: names no video")
        elif name in first:
            problems.append(f"label {number}: '{name}' is already label {first[name]}")
        elif not math.isfinite(value):
            problems.append(f"label {number}: {score!r} of '{name}' is not a number")
        else:
            rows.append(LabelRow(name, value, _text(split), _text(source)))
        first.setdefault(name, number)
    if not rows and not problems:
        problems.append("it has no labels")
    if problems:
        raise LabelError(listed(path, problems))
    return rows


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    # JSON and Parquet turn names made of digits into numbers.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
