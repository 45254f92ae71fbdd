"""Find the videos that the arguments of `launch.py score` name: files, folders and tables of paths."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data.paths import VIDEO_SUFFIXES, FilesBelow, is_picture, is_video
from data.records import VideoRef
from data.tables import SUFFIXES as TABLE_SUFFIXES
from data.tables import TableError, read_table
from runtime.errors import ConfigError

FRAME_RATE = 25.0


class InputError(ConfigError):
    """A command-line argument that names no video. The message says which one and how to fix it."""


def window_of(start_s: float | None, end_s: float | None) -> tuple[float, float] | None:
    """The (start, end) that --start and --end select; None for the whole video.

    Raises InputError if the part is empty.
    """
    if start_s is None and end_s is None:
        return None
    start, end = start_s or 0.0, math.inf if end_s is None else end_s
    if not (0 <= start < end and math.isfinite(start)):
        raise InputError(
            f"--start {start:g} and --end {end:g}: give seconds from 0 on, the end after the start"
        )
    return start, end


def frame_rate_of(as_video: bool, frame_rate: float | None) -> float | None:
    """Pictures per second of a folder of pictures; None without --as-video.

    Raises InputError for a rate without --as-video, or one that is not positive and finite.
    """
    if frame_rate is not None and not as_video:
        raise InputError("--frame-rate applies to folders of pictures: give --as-video, too")
    if frame_rate is not None and not 0 < frame_rate < math.inf:
        raise InputError(f"--frame-rate {frame_rate:g}: give the pictures per second, above 0")
    return (frame_rate or FRAME_RATE) if as_video else None


@dataclass(frozen=True, slots=True)
class FoundVideos:
    """The videos that arguments name.

    `videos` are distinct pairs (video_id, absolute path). `ignored` counts the files in folders whose suffix
    is not that of a video, `repeated` the videos named more than once. `frame_rate` is the number of pictures
    per second of folders of pictures.
    """

    videos: list[tuple[str, str]]
    ignored: int = 0
    repeated: int = 0
    frame_rate: float | None = None

    def refs(self, n_frames: int, window_s: tuple[float, float] | None = None) -> Iterator[VideoRef]:
        """Yield a VideoRef for each video, limited to `window_s` if that is given."""
        return (
            VideoRef(video_id, path, n_frames, window_s=window_s, frame_rate=self.frame_rate)
            for video_id, path in self.videos
        )


def find_videos(
    arguments: Sequence[str], root: Path | None = None, frame_rate: float | None = None
) -> FoundVideos:
    """Find the videos that the arguments name, in the order of the arguments.

    A folder is searched recursively for files with the suffix of a video, sorted by name. A .csv, .jsonl or
    .parquet file is a table with a column `path` and optionally `video_id`. Any other file is assumed to be a
    video. The id of a video is its path, starting from the argument, unless a table gives one.

    Args:
        root: folder that paths in tables are relative to and must lie in; default: the table's folder.
        frame_rate: if given, each folder of pictures is one video with this many pictures per second.
    Raises:
        InputError: for an argument that does not exist, a folder without videos, an unreadable table, or a
            row whose path leaves the root.
    """
    if root is not None and not root.is_dir():
        raise InputError(f"--root {root}: no such folder; give the folder of the videos that tables name")
    found: dict[tuple[str, str], None] = {}
    ignored = named = 0
    for argument in arguments:
        path = Path(argument).expanduser()
        if path.is_dir():
            videos, others = _in_folder(path, as_video=frame_rate is not None)
            ignored += others
        elif not path.exists():
            raise InputError(f"{argument}: no such file or folder; give a video, a folder or a manifest")
        elif path.suffix in TABLE_SUFFIXES:
            videos = _in_table(path, root or path.parent)
        else:
            videos = [(os.path.normpath(path), str(path.absolute()))]
        named += len(videos)
        found |= dict.fromkeys(videos)
    return FoundVideos(list(found), ignored, named - len(found), frame_rate)


def _in_folder(folder: Path, as_video: bool) -> tuple[list[tuple[str, str]], int]:
    """Return (videos, number of other files) of a folder."""
    videos: list[tuple[str, str]] = []
    others = pictures = 0
    for parent, folders, names in os.walk(folder):
        folders.sort()
        found = [name for name in names if is_picture(name)]
        pictures += len(found)
        if as_video and found:
            videos.append((os.path.normpath(parent), os.path.abspath(parent)))
            names = [name for name in names if not is_picture(name)]
        for name in sorted(names):
            if is_video(name):
                path = os.path.join(parent, name)
                videos.append((os.path.normpath(path), os.path.abspath(path)))
            else:
                others += 1
    if not videos:
        hint = (
            f"; with --as-video, a folder of numbered pictures ({pictures} here) is one video"
            if pictures
            else ""
        )
        raise InputError(
            f"{folder}: none of its {others} files has the suffix of a video "
            f"({', '.join(sorted(VIDEO_SUFFIXES))}); give another folder, or name the files one by one{hint}"
        )
    return videos, others


def _in_table(path: Path, root: Path) -> list[tuple[str, str]]:
    try:
        table = read_table(path)
    except TableError as error:
        raise InputError(str(error)) from None
    if "path" not in table.columns:
        raise InputError(f"{path}: column 'path' is missing; it has {', '.join(map(str, table.columns))}")
    ids = table["video_id"].fillna(table["path"]) if "video_id" in table.columns else table["path"]
    files = FilesBelow(root.resolve(), check=False, option="--root")  # a missing file fails when decoded
    first_row = 2 if path.suffix == ".csv" else 1
    videos = []
    for number, (id_, video) in enumerate(zip(ids, table["path"], strict=True), start=first_row):
        if pd.isna(video):
            raise InputError(
                f"{path}: row {number}, path: is empty; name the video's file, or remove the row"
            )
        try:
            videos.append((str(id_), files.locate(str(video))))
        except LookupError as error:
            raise InputError(f"{path}: row {number}, path: {error.args[0]}") from None
    if not videos:
        raise InputError(f"{path}: it has no rows")
    return videos
