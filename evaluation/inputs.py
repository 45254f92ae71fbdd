"""Which videos a command means: files, folders and tables of paths."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data.paths import FilesBelow
from data.records import VideoRef
from data.tables import SUFFIXES as TABLE_SUFFIXES
from data.tables import TableError, read_table
from runtime.errors import ConfigError

VIDEO_SUFFIXES = (
    ".3gp", ".asf", ".avi", ".flv", ".h264", ".h265", ".hevc", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4",
    ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m",
)  # fmt: skip


class InputError(ConfigError):
    """An argument that names no video; says which and what to give instead."""


@dataclass(frozen=True, slots=True)
class FoundVideos:
    """`videos` are (video_id, absolute path), each pair once; `ignored` counts the files of folders whose
    suffix is no video's, `repeated` what was named before."""

    videos: list[tuple[str, str]]
    ignored: int = 0
    repeated: int = 0

    def refs(self, n_frames: int) -> Iterator[VideoRef]:
        """Refs to the whole videos."""
        return (VideoRef(video_id, path, n_frames) for video_id, path in self.videos)


def find_videos(arguments: Sequence[str], root: Path | None = None) -> FoundVideos:
    """The videos behind the arguments of a command, in their order.

    A folder is searched with its sub-folders, by suffix and sorted; a .csv, .jsonl or .parquet file is a
    table with a column `path`, and perhaps `video_id`; any other file is taken for a video. The id of a video
    is its path as it was reached from the argument.

    Args:
        root: folder that the paths of tables start from and that none may leave; default: the table's.
    Raises:
        InputError: for an argument that does not exist, a folder without videos, an unreadable table, or a
            row whose path leaves the root.
    """
    if root is not None and not root.is_dir():
        raise InputError(f"--root {root}: no such folder; give the one that the paths of tables start from")
    found: dict[tuple[str, str], None] = {}
    ignored = named = 0
    for argument in arguments:
        path = Path(argument).expanduser()
        if path.is_dir():
            videos, others = _in_folder(path)
            ignored += others
        elif not path.exists():
            raise InputError(f"{argument}: no such file or folder; give a video, a folder or a manifest")
        elif path.suffix in TABLE_SUFFIXES:
            videos = _in_table(path, root or path.parent)
        else:
            videos = [(os.path.normpath(path), str(path.absolute()))]
        named += len(videos)
        found |= dict.fromkeys(videos)
    return FoundVideos(list(found), ignored, named - len(found))


def _in_folder(folder: Path) -> tuple[list[tuple[str, str]], int]:
    """(videos, number of other files)."""
    videos: list[tuple[str, str]] = []
    others = 0
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if Path(name).suffix.lower() in VIDEO_SUFFIXES:
                path = os.path.join(parent, name)
                videos.append((os.path.normpath(path), os.path.abspath(path)))
            else:
                others += 1
    if not videos:
        raise InputError(
            f"{folder}: none of its {others} files has the suffix of a video "
            f"({', '.join(VIDEO_SUFFIXES)}); give another folder, or name the files one by one"
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
    files = FilesBelow(root.resolve(), check=False, option="--root")  # one that is not there fails by itself
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
