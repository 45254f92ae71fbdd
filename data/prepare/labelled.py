"""Makes a manifest from a benchmark's labels and videos: finds and opens every file, converts every label."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import pandas as pd

from data.benchmarks.files import Missing, NotFound, VideoFolder
from data.benchmarks.labels import LabelRow, Labels, read_labels
from data.benchmarks.sets import Benchmark, Scale
from data.config import DataConfig
from data.fetch import FetchError
from data.fetch_settings import DEFAULT_FETCHING, Fetching
from data.file_cache import table_file
from data.prepare.checked import examine
from data.tables import TableError, check_table_name, write_table
from data.urls import Location, is_url
from runtime.killable import run_isolated

Check = Literal["exists", "open", "decode"]
_LISTED_PROBLEMS = 5


class PrepareError(TableError):
    """No manifest can be made from the inputs. The message gives the reason and the fix."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The result of `prepare`.

    `base`: the folder that the manifest's paths are relative to. `span`: the smallest and the largest label.
    `problems`: the reasons why labelled videos are not in the manifest. `problems_file`: the table of these
    reasons, if there are any. `marked`: the unusual facts that a run would report, by video (with the check
    `decode`).
    """

    manifest: Path
    base: Location
    rows: int
    scale: Scale
    span: tuple[float, float]
    problems: dict[str, str]
    problems_file: Path | None
    marked: dict[str, str]


def prepare(
    benchmark: Benchmark,
    labels: Location,
    videos: Location,
    out: Path,
    *,
    scale: Scale | None = None,
    split: str | None = None,
    label_set: str | None = None,
    rank_only: bool = False,
    check: Check = "open",
    processes: int = 2,
    timeout_s: float = 30.0,
    fetching: Fetching = DEFAULT_FETCHING,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Write a manifest of those videos of a benchmark that exist and pass the check.

    Args:
        labels: the label file; may be a URL.
        videos: the folder of the videos, searched with its sub-folders; may be a URL.
        out: the manifest to write, .parquet, .csv or .jsonl.
        scale: scale of the labels; default: the benchmark's. Rank-only labels need none.
        split: split of all rows; default: the label file's split, or else the benchmark's.
        label_set: label set of all rows; default: the benchmark's name.
        rank_only: use the labels only to order the videos.
        check: `exists`: the file exists; `open`: its container has a video stream whose first frame decodes;
            `decode`: all frames that a run with default settings uses decode.
        processes: number of files opened at once.
        timeout_s: deadline for opening one file, without fetching it.
        fetching: settings for fetching from URLs.
        progress: called with the number of files opened and the total number.
    Raises:
        TableError: if labels cannot be read or are off the scale, the format of `out` is unknown, or no video
            is left.
    """
    check_table_name(out)
    found = _read_labels(labels, benchmark, fetching)
    scores = [row.score for row in found.rows]
    span = min(scores), max(scores)
    scale = scale or benchmark.scale_of(found.layout)
    if scale is None and not rank_only:
        raise PrepareError(
            f"{labels}: its labels run from {span[0]:g} to {span[1]:g}; give the labels of the worst "
            f"and the best possible video with --scale, as in --scale 0 100"
        )
    scale = scale or span
    _check_scale(labels, found.rows, scale)
    folder = VideoFolder(videos, fetching)
    files, problems = _locate(folder, found.rows, benchmark.ending)
    paths = {video: folder.location(file) for video, file in files.items()}
    failing, marked = _failing(paths, check, processes, timeout_s, fetching, progress)
    problems |= failing
    kept = [row for row in found.rows if row.path not in problems]
    problems_file = _write_problems(out, problems)
    if not kept:
        raise PrepareError(_nothing_left(labels, folder, problems, problems_file))
    base = _base(folder.root, out)
    name = label_set or benchmark.name
    rows = [
        {
            "video_id": f"{name}/{row.path}",
            "path": _below(base, folder, files[row.path]),
            "mos": to_mos(row.score, scale),
            "split": split or row.split or benchmark.split,
            "label_set": name,
            "source": row.source or source_of(benchmark, row.path),
            "rank_only": rank_only,
            "original_mos": row.score,
            "scale_low": float(scale[0]),
            "scale_high": float(scale[1]),
        }
        for row in kept
    ]
    write_table(pd.DataFrame(rows), out)
    return Prepared(out, base, len(rows), scale, span, problems, problems_file, marked)


def _read_labels(labels: Location, benchmark: Benchmark, fetching: Fetching) -> Labels:
    try:
        with table_file(labels, fetching) as file:
            try:
                return read_labels(file, benchmark.columns)
            except TableError as error:
                raise type(error)(str(error).replace(str(file), str(labels))) from None
    except FetchError as error:
        raise PrepareError(f"{labels}: {error}") from None


def to_mos(score: float, scale: Scale) -> float:
    """Convert a label from its set's scale to the range 1 to 5."""
    low, high = scale
    return min(max(1 + 4 * (score - low) / (high - low), 1.0), 5.0)


def source_of(benchmark: Benchmark, name: str) -> str:
    """Return the content in a video's name; empty for benchmarks that do not repeat contents."""
    if not benchmark.source:
        return ""
    content = re.search(benchmark.source, PurePosixPath(name).name)
    return content.group(1) if content else ""


def _check_scale(labels: Location, rows: Sequence[LabelRow], scale: Scale) -> None:
    low, high = min(scale), max(scale)
    if low == high:
        raise PrepareError(
            f"{labels}: a scale from {low:g} to {high:g} has no range: give two different labels with --scale"
        )
    off = [row for row in rows if not low <= row.score <= high]
    if off:
        examples = ", ".join(f"{row.score:g} of '{row.path}'" for row in off[:3])
        raise PrepareError(
            f"{labels}: {len(off)} of {len(rows)} labels are outside the scale {scale[0]:g} to {scale[1]:g} "
            f"({examples}): give the labels of the worst and the best possible video with --scale"
        )


def _locate(
    folder: VideoFolder, rows: Sequence[LabelRow], ending: str | None
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the file of each label, and the reason for each label without a file. Each file is used once."""
    files: dict[str, str] = {}
    owner: dict[str, str] = {}
    reasons: dict[str, NotFound] = {}
    for row in rows:
        try:
            file = folder.find(row.path, ending)
            if file in owner:
                raise NotFound(f"is {file}, which already is '{owner[file]}'")
        except NotFound as error:
            reasons[row.path] = error
        else:
            owner[file] = row.path
            files[row.path] = file
    return files, {video: _reason(folder, video, error, owner) for video, error in reasons.items()}


def _reason(folder: VideoFolder, video: str, error: NotFound, owner: dict[str, str]) -> str:
    near = folder.nearest(video, owner) if isinstance(error, Missing) else None
    return str(error) if near is None else f"{error}; the nearest name is {near}"


def _failing(
    paths: dict[str, str],
    check: Check,
    processes: int,
    timeout_s: float,
    fetching: Fetching,
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the reasons why videos fail the check, and the unusual facts that a run with default settings
    would report for the others."""
    if check == "exists":
        return {}, {}
    if check == "open":
        outcomes = run_isolated(
            "data.prepare.probe",
            [[path, asdict(fetching)] for path in paths.values()],
            processes,
            timeout_s + fetching.budget_s * any(map(is_url, paths.values())),
            None if progress is None else lambda done: progress(done, len(paths)),
        )
        failures = zip(paths, (outcome.failure for outcome in outcomes), strict=True)
        return {video: f"does not open: {failure}" for video, failure in failures if failure}, {}
    data = DataConfig(
        decode_timeout_s=timeout_s,
        cache_gb=fetching.cache_gb,
        cache_dir=fetching.folder,
        fetch_timeout_s=fetching.timeout_s,
    )
    by_path = examine([*paths.values()], data, processes, progress)
    found = {video: by_path[path] for video, path in paths.items()}
    failing = {v: f"does not decode: {f.reason}" for v, f in found.items() if f.verdict == "fails"}
    return failing, {v: f.reason for v, f in found.items() if f.verdict == "marked"}


def _write_problems(out: Path, problems: dict[str, str]) -> Path | None:
    file = out.with_name(f"{out.stem}.problems.csv")
    if not problems:
        file.unlink(missing_ok=True)
        return None
    write_table(pd.DataFrame(problems.items(), columns=["video", "reason"]), file)
    return file


def _nothing_left(labels: Location, folder: VideoFolder, problems: dict[str, str], file: Path | None) -> str:
    first = "\n".join([f"  {video} {reason}" for video, reason in problems.items()][:_LISTED_PROBLEMS])
    return (
        f"{labels}: none of its {len(problems)} videos can be used, so no manifest is written; {folder.root} "
        f"holds {len(folder.files)} files. The full list is in {file}; it begins with\n{first}"
    )


def _base(videos: Location, out: Path) -> Location:
    """Return the folder or URL that the manifest's paths are relative to: that of the manifest, or the one of
    the videos if it is not below the manifest's."""
    home = out.parent.resolve()
    return home if isinstance(videos, Path) and videos.is_relative_to(home) else videos


def _below(base: Location, folder: VideoFolder, file: str) -> str:
    """Return the path of a file relative to `base`."""
    if isinstance(base, str):
        return file
    return Path(folder.location(file)).relative_to(base).as_posix()
