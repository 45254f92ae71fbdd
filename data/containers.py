"""Opens a file with PyAV, to decode it or to read its packets."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av

from data.video_file import Unreadable

_STATES_ITS_END = ("mov", "matroska", "flv", "mxf", "ivf", "rm")
"""Containers whose header states the duration. For others FFmpeg derives the duration from the last
packets."""

_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_HEADER_BYTES = 2**16


def open_container(path: str) -> Any:
    """Open a file's container. Raises Unreadable."""
    with logged_errors() as errors:
        try:
            # Old files have titles in arbitrary encodings, but their frames can be decoded.
            return av.open(path, metadata_errors="replace")
        except (av.FFmpegError, OSError) as error:
            if any("moov atom not found" in text for _, _, text in errors) and _is_mp4(path):
                raise Unreadable(
                    "its index (the box moov) is missing: the file is cut short", "truncated"
                ) from None
            raise Unreadable(reason_of(error)) from None


@contextmanager
def logged_errors() -> Iterator[list[Any]]:
    """Collect the errors that FFmpeg logs inside the block, as (level, name, text)."""
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # do not drop an error because an earlier file's had the same text
    try:
        with av.logging.Capture() as errors:
            yield errors
    finally:
        av.logging.set_level(None)


def video_stream(container: Any) -> Any:
    """Return the stream that a player would show, never cover art. Raises Unreadable."""
    stream = container.streams.best("video")
    if stream is None:
        raise Unreadable("it has no video stream", "no_video")
    if stream.codec_context is None:
        raise Unreadable("nothing decodes its video stream")
    return stream


def first_frame(path: str) -> Any:
    """Decode the first frame of the file's video stream. Raises Unreadable."""
    with open_container(path) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1
        try:
            frame = next(container.decode(stream), None)
        except av.FFmpegError as error:
            raise Unreadable(reason_of(error)) from None
    if frame is None:
        raise Unreadable("it has no frames", "empty")
    return frame


def family_of(container: Any) -> str:
    """Return the first of FFmpeg's names for the container, such as mov for MP4, MOV and 3GP."""
    return container.format.name.split(",")[0]


def stated_end_s(container: Any, stream: Any, path: str) -> float | None:
    """Return the end time that the container states, in seconds from the start of its clock; None if it
    states none."""
    family = family_of(container)
    if family == "avi":
        return float(stream.frames / stream.average_rate) if stream.average_rate else None
    if family == "asf":
        return _asf_end_s(path)
    if family not in _STATES_ITS_END or container.duration is None:
        return None
    return container.duration / av.time_base


def reason_of(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _asf_end_s(path: str) -> float | None:
    """Read the end time from the file properties object. FFmpeg ignores it if the file's size differs from
    the stated size."""
    with Path(path).open("rb") as file:
        header = file.read(_ASF_HEADER_BYTES)
    start = header.find(_ASF_FILE_PROPERTIES)
    if start < 0 or len(header) < start + 92:
        return None
    fields = header[start : start + 92]
    play, preroll = (int.from_bytes(fields[at : at + 8], "little") for at in (64, 80))
    is_broadcast = fields[88] & 1
    return None if is_broadcast else play / 1e7 - preroll / 1e3


def _is_mp4(path: str) -> bool:
    """Return True if the file starts with the box of an MP4 or MOV. FFmpeg also tries to read other files
    with such a suffix as MP4."""
    with Path(path).open("rb") as file:
        return file.read(8)[4:] == b"ftyp"
