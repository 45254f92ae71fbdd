"""Manifests: labelled videos, one row each, checked as a whole before anything starts.

path        the video, relative to the manifest's folder (or to the root given); required
mos         mean opinion score from 1 to 5; required
video_id    name, unique; default: the path
split       default: train
label_set   scores are compared within one set only; default: default. What comes before the first "/" is its
            family: rewards are shown by family
source      content, what intervals are bootstrapped over
rank_only   true: the label orders the video among its set and is no target
original_mos, scale_low, scale_high
            the label as its set publishes it, and the set's labels that MOS 1 and MOS 5 stand for (low > high
            where smaller is better); the scale is the same in all rows of a label_set
headline    false: left out of the headline figures
distortion, strength, content, label_by, licence   notes
"""

import difflib
import hashlib
import math
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from data.paths import FilesBelow
from data.records import Video
from data.tables import TableError, check_table_name, read_table

COLUMNS = (
    "video_id", "path", "mos", "split", "label_set", "source", "rank_only", "original_mos", "scale_low",
    "scale_high", "headline", "distortion", "strength", "content", "label_by", "licence",
)  # fmt: skip
_REQUIRED = ("path", "mos")
_ORIGINAL = ("original_mos", "scale_low", "scale_high")
_LISTED_PROBLEMS = 20
_MOS_TOLERANCE = 0.01
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


class ManifestError(TableError):
    """A manifest that cannot be used; lists every problem with its row, column and cure."""


def read_manifest(
    path: Path, root: Path | None = None, check_files: bool = True, root_option: str = "--data.root"
) -> list[Video]:
    """Read and validate a manifest (.csv, .jsonl or .parquet).

    Args:
        root: folder that relative paths start from and that no path may leave; default: the manifest's.
        check_files: whether every video has to be there.
        root_option: what sets `root`, for the cure in errors.
    Returns:
        The videos in the order of their rows, paths absolute.
    Raises:
        ManifestError: with all problems at once.
    """
    table = _read_manifest_table(path)
    files = FilesBelow((root or path.parent).resolve(), check_files, root_option)
    problems = _column_problems(table)
    if problems:
        raise ManifestError(_report(path, problems))
    videos: list[Video] = []
    first_row: dict[str, Hashable] = {}
    for number, row in enumerate(table.to_dict("records"), start=_first_row_number(path)):
        cells = {str(name): value for name, value in row.items() if not _is_missing(value)}
        reader = _RowReader(number, cells, problems)
        video = reader.video(files)
        if video is None:
            continue
        if video.video_id in first_row:
            reader.problem(
                "video_id",
                f"'{video.video_id}' is already in row {first_row[video.video_id]}: remove one, or give "
                f"them different video_ids",
            )
        first_row.setdefault(video.video_id, number)
        videos.append(video)
    if not len(table):
        problems.append("it has no rows")
    if not problems:
        problems = _scale_problems(videos)
    if problems:
        raise ManifestError(_report(path, problems))
    return videos


def manifest_hash(path: Path) -> str:
    """SHA-256 of the file, to tell whether a run is resumed on the rows that it began with."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def manifest_name(path: Path) -> str:
    """What a manifest is about: its file's name, or its folder's where the file is just called manifest."""
    return path.resolve().parent.name if path.stem == "manifest" else path.stem


def _read_manifest_table(path: Path) -> pd.DataFrame:
    try:
        check_table_name(path)
        if not path.is_file():
            hint = " (make demo-set builds it)" if path.parent.parts[-2:] == ("demo", "clips") else ""
            raise ManifestError(f"{path}: no such manifest; give its path with --data.manifest{hint}")
        return read_table(path)
    except TableError as error:
        raise ManifestError(str(error)) from None


def _first_row_number(path: Path) -> int:
    """Rows are counted as an editor shows them: from 1, a CSV's header line included."""
    return 2 if path.suffix == ".csv" else 1


def _column_problems(table: pd.DataFrame) -> list[str]:
    problems = [
        f"column '{name}' is missing: every row needs it" for name in _REQUIRED if name not in table.columns
    ]
    for name in table.columns:
        if name not in COLUMNS:
            near = difflib.get_close_matches(str(name), COLUMNS, n=1)
            cure = f"did you mean '{near[0]}'?" if near else f"known columns are {', '.join(COLUMNS)}"
            problems.append(f"column '{name}' is unknown; {cure}")
    return problems


def _scale_problems(videos: Iterable[Video]) -> list[str]:
    scales: dict[str, set[tuple[float | None, float | None]]] = {}
    for video in videos:
        scales.setdefault(video.label_set, set()).add((video.scale_low, video.scale_high))
    return [
        f"label_set '{name}' has rows of {len(found)} scales (scale_low, scale_high): give the rows of each "
        f"scale a label_set of their own"
        for name, found in scales.items()
        if len(found) > 1
    ]


class _RowReader:
    """Turns one row into a Video and collects what is wrong with it."""

    def __init__(self, number: int, cells: dict[str, Any], problems: list[str]) -> None:
        self._number = number
        self._cells = cells
        self._problems = problems

    def problem(self, column: str, text: str) -> None:
        self._problems.append(f"row {self._number}, {column}: {text}")

    def video(self, files: FilesBelow) -> Video | None:
        before = len(self._problems)
        path = self._path(files)
        mos = self._mos()
        rank_only = self._flag("rank_only", default=False)
        original_mos, scale_low, scale_high = self._original(mos, rank_only)
        strength = self._number_of("strength") if "strength" in self._cells else None
        video = Video(
            video_id=self._text("video_id", self._text("path", "")),
            path=path,
            mos=mos,
            split=self._text("split", "train"),
            label_set=self._text("label_set", "default"),
            source=self._text("source", ""),
            rank_only=rank_only,
            headline=self._flag("headline", default=True),
            distortion=self._text("distortion", ""),
            strength=strength,
            original_mos=original_mos,
            scale_low=scale_low,
            scale_high=scale_high,
        )
        return video if len(self._problems) == before else None

    def _path(self, files: FilesBelow) -> str:
        text = self._text("path", "")
        if not text:
            self.problem("path", "is empty: name the video's file")
            return ""
        try:
            return files.locate(text)
        except LookupError as error:
            self.problem("path", str(error.args[0]))
            return ""

    def _mos(self) -> float:
        if "mos" not in self._cells:
            self.problem("mos", "is empty: give the video's mean opinion score")
            return 0.0
        mos = self._number_of("mos")
        if mos is None:
            return 0.0
        if not 1 <= mos <= 5:
            self.problem("mos", f"{mos:g} is outside 1 to 5: map the labels to that scale first")
        return mos

    def _original(self, mos: float, rank_only: bool) -> tuple[float, float, float] | tuple[None, None, None]:
        """The label as it was and the ends of its scale, if the row has them."""
        given = [name for name in _ORIGINAL if name in self._cells]
        if not given:
            return None, None, None
        if len(given) < len(_ORIGINAL):
            missing = next(name for name in _ORIGINAL if name not in given)
            self.problem(
                missing, f"is empty, but {given[0]} is not: give all of {', '.join(_ORIGINAL)}, or none"
            )
            return None, None, None
        numbers = [self._number_of(name) for name in _ORIGINAL]
        original, low, high = (math.nan if number is None else number for number in numbers)
        if None in numbers:
            return None, None, None
        if not math.isfinite(original) or not math.isfinite(high - low) or low == high:
            self.problem("scale_low", f"{low:g} to {high:g} with a label of {original:g} is no scale")
            return None, None, None
        expected = 1 + 4 * (original - low) / (high - low)
        if not rank_only and abs(expected - mos) > _MOS_TOLERANCE:
            self.problem(
                "original_mos",
                f"{original:g} on the scale {low:g} to {high:g} is a mos of {expected:.4g}, not {mos:.4g}",
            )
        return original, low, high

    def _number_of(self, column: str) -> float | None:
        try:
            return float(self._cells[column])
        except (TypeError, ValueError):
            self.problem(column, f"{self._cells[column]!r} is not a number")
            return None

    def _flag(self, column: str, default: bool) -> bool:
        text = str(self._cells.get(column, default)).lower()
        if text not in _TRUE + _FALSE:
            self.problem(column, f"{self._cells[column]!r} is neither true nor false")
        return text in _TRUE

    def _text(self, column: str, default: str) -> str:
        return str(self._cells.get(column, default)).strip()


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _report(path: Path, problems: list[str]) -> str:
    shown = [f"  {problem}" for problem in problems[:_LISTED_PROBLEMS]]
    if len(problems) > _LISTED_PROBLEMS:
        shown.append(f"  and {len(problems) - _LISTED_PROBLEMS} more")
    return "\n".join([f"{path}:", *shown])
