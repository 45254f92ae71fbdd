"""Find the videos that the arguments of `launch.py score` name: files, folders and tables, also by URL."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data.fetch import FetchError, check_driver, check_reachable, list_files
from data.fetch_settings import DEFAULT_FETCHING, Fetching
from data.file_cache import table_file
from data.paths import VIDEO_SUFFIXES, FilesBelow, is_picture, is_video
from data.records import VideoRef
from data.tables import SUFFIXES as TABLE_SUFFIXES
from data.tables import TableError, read_table
from data.urls import Location, check_url, is_url, is_web, name_of, usable
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

    `videos` are distinct pairs (video_id, absolute path or URL). `ignored` counts the files in folders whose
    suffix is not that of a video, `repeated` the videos named more than once. `frame_rate` is the number of
    pictures per second of folders of pictures.
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
    arguments: Sequence[str],
    root: Location | None = None,
    frame_rate: float | None = None,
    fetching: Fetching = DEFAULT_FETCHING,
) -> FoundVideos:
    """Find the videos that the arguments name, in the order of the arguments.

    A folder is searched recursively for files with the suffix of a video, sorted by name. A .csv, .jsonl or
    .parquet file is a table with a column `path` and optionally `video_id`. Any other file is assumed to be a
    video. The id of a video is its path, starting from the argument, unless a table gives one. URLs are
    treated alike; HTTP lists no folders.

    Args:
        root: folder or URL that paths in tables are relative to and must lie in; default: the table's folder.
        frame_rate: if given, each folder of pictures is one video with this many pictures per second.
        fetching: how folders are listed and tables fetched by URL.
    Raises:
        ConfigError: for an argument that does not exist, a URL that may not be used, a folder without videos,
            an unreadable table, or a row whose path leaves the root.
    """
    if isinstance(root, Path) and not root.is_dir():
        raise InputError(f"--root {root}: no such folder; give the folder of the videos that tables name")
    found: dict[tuple[str, str], None] = {}
    ignored = named = 0
    for argument in arguments:
        path = Path(argument).expanduser()
        if is_url(argument):
            videos, others = _at_url(check_url(argument), argument.endswith("/"), root, fetching)
            ignored += others
        elif path.is_dir():
            videos, others = _in_folder(path, as_video=frame_rate is not None)
            ignored += others
        elif not path.exists():
            raise InputError(f"{argument}: no such file or folder; give a video, a folder or a manifest")
        elif path.suffix in TABLE_SUFFIXES:
            videos = _in_table(path, path, root)
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


def _at_url(
    url: str, is_folder: bool, root: Location | None, fetching: Fetching
) -> tuple[list[tuple[str, str]], int]:
    """(videos, number of other files)."""
    if is_web(url) and is_folder:
        raise InputError(f"{url}/: HTTP lists no folders; give the URL of a video, or of a table of paths")
    try:
        check_driver(url)
        if name_of(url).suffix in TABLE_SUFFIXES:
            with table_file(url, fetching) as file:
                return _in_table(url, file, root), 0
        if is_web(url):
            check_reachable(url, fetching)
        files = list_files(url, fetching)
    except FetchError as error:
        raise InputError(f"{url}: {error}") from None
    if files is None:
        return [(url, url)], 0
    videos = [(file, file) for file in files if is_video(file) and usable(url, file)]
    if not videos:
        raise InputError(
            f"{url}: none of its {len(files)} files has the suffix of a video; give another folder, or name "
            f"the files one by one (--as-video reads folders of this machine only)"
        )
    return videos, len(files) - len(videos)


def _in_table(path: Location, file: Path, root: Location | None) -> list[tuple[str, str]]:
    """The videos of the table at `path`, which lies in `file` on this machine."""
    try:
        table = read_table(file)
    except TableError as error:
        raise InputError(str(error).replace(str(file), str(path))) from None
    if "path" not in table.columns:
        raise InputError(f"{path}: column 'path' is missing; it has {', '.join(map(str, table.columns))}")
    ids = table["video_id"].fillna(table["path"]) if "video_id" in table.columns else table["path"]
    if root is None and isinstance(path, str):
        root = path.rsplit("/", 1)[0]
    files = FilesBelow(file.parent, root, check=False, option="--root")  # a missing file fails when decoded
    first_row = 2 if file.suffix == ".csv" else 1
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
