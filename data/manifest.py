"""Manifests: labelled videos, one row each, checked as a whole before anything starts.

path        the video, relative to the manifest's folder (or to the root given), or its URL; required
mos         mean opinion score from 1 to 5; required
video_id    name, unique; default: the path
split       default: train
label_set   scores are compared within one set only; default: default. The part before the first "/" is the
            set's family; rewards are reported per family
source      the content of the video; bootstrap intervals resample contents
rank_only   true: the label only orders the video within its set
original_mos, scale_low, scale_high
            the published label, and the labels that correspond to MOS 1 and MOS 5 (low > high if smaller is
            better); the scale is the same in all rows of a label_set
headline    false: excluded from the headline figures
distortion, strength, content, label_by, licence   notes
"""

import difflib
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import pandas as pd
from pydantic import BeforeValidator, TypeAdapter, ValidationError

from data.fetch import FetchError, check_reachable
from data.fetch_settings import Fetching
from data.paths import FilesBelow
from data.records import Video
from data.tables import TableError, check_table_name, listed, read_table
from data.urls import Location, is_url

COLUMNS = (
    "video_id", "path", "mos", "split", "label_set", "source", "rank_only", "original_mos", "scale_low",
    "scale_high", "headline", "distortion", "strength", "content", "label_by", "licence",
)  # fmt: skip
_REQUIRED = {"path": "name the video's file", "mos": "give the video's mean opinion score"}
_ORIGINAL = ("original_mos", "scale_low", "scale_high")
_MOS_TOLERANCE = 0.01
_PROBING = Fetching(timeout_s=20.0, tries=2)

_Text = Annotated[str, BeforeValidator(lambda cell: str(cell).strip())]
_FIELDS: dict[str, TypeAdapter[Any]] = {
    name: TypeAdapter(_Text if kind is str else kind) for name, kind in get_type_hints(Video).items()
}
_EXPECTED = dict.fromkeys(("float_parsing", "float_type"), "is not a number") | dict.fromkeys(
    ("bool_parsing", "bool_type"), "is neither true nor false"
)
"""Descriptions of invalid cells, by pydantic's error type."""


class ManifestError(TableError):
    """A manifest cannot be used. The message lists every problem with its row, column and fix."""


def read_manifest(
    path: Path, root: Location | None = None, check_files: bool = True, root_option: str = "--data.root"
) -> list[Video]:
    """Read and validate a manifest (.csv, .jsonl or .parquet).

    Args:
        root: folder or URL that paths are relative to and must stay below; default: the manifest's folder,
            and then paths may also be URLs.
        check_files: check that every local video exists, and that at least one of the first, the middle and
            the last video named by URL is reachable.
        root_option: the option that sets `root`, for errors.
    Returns:
        The videos in the order of their rows, paths absolute or URLs.
    Raises:
        ManifestError: if there are problems; it lists all of them.
    """
    table = _read_manifest_table(path)
    files = FilesBelow(path.parent, root, check_files, root_option)
    problems = _column_problems(table)
    if problems:
        raise ManifestError(listed(path, problems))
    videos: list[Video] = []
    first_row: dict[str, int] = {}
    for number, row in enumerate(table.to_dict("records"), start=_first_row_number(path)):
        cells = {str(name): value for name, value in row.items() if not _is_missing(value)}
        fields, wrong = _read_row(cells, files)
        if not wrong:
            videos.append(Video(**fields))
            name = videos[-1].video_id
            if first_row.setdefault(name, number) != number:
                wrong["video_id"] = (
                    f"'{name}' is already in row {first_row[name]}: remove one, or give them different "
                    f"video_ids"
                )
        problems += [f"row {number}, {column}: {text}" for column, text in wrong.items()]
    if not len(table):
        problems.append("it has no rows")
    problems = problems or _scale_problems(videos)
    if check_files and not problems:
        problems = _unreachable([video.path for video in videos if is_url(video.path)])
    if problems:
        raise ManifestError(listed(path, problems))
    return videos


def manifest_hash(path: Path) -> str:
    """Return the SHA-256 of the file, to detect that a run is resumed with other rows."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def manifest_name(path: Path) -> str:
    """Return a manifest's name: the file's stem, or the folder's name if the stem is just "manifest"."""
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
    """Return the number of the first row. Rows are numbered like lines from 1, and a CSV's header is line
    1."""
    return 2 if path.suffix == ".csv" else 1


def _column_problems(table: pd.DataFrame) -> list[str]:
    problems = [
        f"column '{name}' is missing: every row needs it" for name in _REQUIRED if name not in table.columns
    ]
    for name in table.columns:
        if name not in COLUMNS:
            near = difflib.get_close_matches(str(name), COLUMNS, n=1)
            fix = f"did you mean '{near[0]}'?" if near else f"known columns are {', '.join(COLUMNS)}"
            problems.append(f"column '{name}' is unknown; {fix}")
    return problems


def _unreachable(urls: Sequence[str]) -> list[str]:
    """Return the errors if none of the tried URLs can be opened. A single bad URL only fails its video."""
    problems = []
    for url in dict.fromkeys(urls[at] for at in (0, len(urls) // 2, -1) if urls):
        try:
            check_reachable(url, _PROBING)
            return []
        except FetchError as error:
            problems.append(f"{url}: {error}")
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


def _read_row(cells: Mapping[str, Any], files: FilesBelow) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the fields of a row's video, and the row's problems by column."""
    fields: dict[str, Any] = {"split": "train"}
    problems: dict[str, str] = {}
    for name in [name for name in _FIELDS if name in cells]:
        try:
            fields[name] = _FIELDS[name].validate_python(cells[name])
        except ValidationError as error:
            problems[name] = f"{cells[name]!r} {_EXPECTED[error.errors()[0]['type']]}"
    for name, fix in _REQUIRED.items():
        if not str(cells.get(name, "")).strip():
            problems[name] = f"is empty: {fix}"
    if "path" not in problems:
        fields.setdefault("video_id", fields["path"])
        try:
            fields["path"] = files.locate(fields["path"])
        except LookupError as error:
            problems["path"] = str(error.args[0])
    if "mos" in fields and not 1 <= fields["mos"] <= 5:
        problems["mos"] = f"{fields['mos']:g} is outside 1 to 5: map the labels to that scale first"
    if problems.keys().isdisjoint(("mos", *_ORIGINAL)):
        problems |= _original_problem(fields)
    return fields, problems


def _original_problem(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return problems with a row's published label and the ends of its scale, by column."""
    given = [name for name in _ORIGINAL if name in fields]
    missing = [name for name in _ORIGINAL if name not in fields]
    if not given:
        return {}
    if missing:
        return {missing[0]: f"is empty, but {given[0]} is not: give all of {', '.join(_ORIGINAL)}, or none"}
    original, low, high = (fields[name] for name in _ORIGINAL)
    if not math.isfinite(original) or not math.isfinite(high - low) or low == high:
        return {"scale_low": f"{low:g} to {high:g} with a label of {original:g} is no scale"}
    mos, expected = fields["mos"], 1 + 4 * (original - low) / (high - low)
    if fields.get("rank_only") or abs(expected - mos) <= _MOS_TOLERANCE:
        return {}
    text = f"{original:g} on the scale {low:g} to {high:g} is a mos of {expected:.4g}, not {mos:.4g}"
    return {"original_mos": text}


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)
