"""decord behind the seam of data/frames.py. It turns frames upright by itself.

decord hands out wrong frames, without a word, of many containers and codecs, and of streams whose key frames
are no clean start. So it reads only what it was shown to read right, frame by frame; a look at the packets,
which decodes nothing, tells.
"""

from importlib import metadata
from typing import Any

import av
import decord
import numpy as np

from data.containers import open_container, reason_of, video_stream
from data.video_file import Unreadable

_REFUSALS = (decord.DECORDError, RuntimeError, OSError, UnicodeEncodeError)

_RIGHT = {
    "mov": {"h264", "hevc", "vp9", "mjpeg"},
    "matroska": {"h264", "hevc", "vp8", "vp9"},
}
"""Codecs by container; FFmpeg's first name of the container stands for its family (mov: MP4, 3GP, ...)."""

_NAL_LENGTH_AT = {"h264": 4, "hevc": 21}
"""Where the decoder's configuration record says how many bytes the length of a NAL unit has."""


class DecordVideo:
    decoder = f"decord {metadata.version('decord')}"

    def __init__(self, path: str) -> None:
        n_packets = trusted_packets(path)
        decord.logging.set_level(decord.logging.QUIET)
        try:
            self._reader = decord.VideoReader(path, num_threads=1)
        except _REFUSALS as error:
            raise Unreadable(_reason(error)) from None
        self.n_frames = len(self._reader)
        if self.n_frames != n_packets:
            raise _wrong(f"where it counts {self.n_frames} frames in {n_packets} packets")

    def times_s(self) -> np.ndarray:
        spans = np.asarray(self._reader.get_frame_timestamp(range(self.n_frames)), dtype=np.float64)
        return np.append(spans[:, 0], spans[-1, 1]) - spans[0, 0]

    def frames(self, indices: np.ndarray) -> np.ndarray:
        try:
            return self._reader.get_batch(indices).asnumpy()
        except _REFUSALS as error:
            raise Unreadable(_reason(error)) from None

    def close(self) -> None:
        del self._reader


def trusted_packets(path: str) -> int:
    """How many packets the video has. Raises Unreadable if decord cannot be trusted with it."""
    # No decoder is opened: FFmpeg would decode the first frames.
    with open_container(path, codec_whitelist="none") as container:
        stream = video_stream(container)
        family, codec = container.format.name.split(",")[0], stream.codec_context.codec.canonical_name
        if codec not in _RIGHT.get(family, ()):
            raise _wrong(f"out of {codec} in {family}")
        count = 0
        try:
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                count += 1
                if packet.is_discard:
                    raise _wrong("out of a video that was cut without encoding it anew")
                if packet.is_keyframe and not _is_clean_start(packet, codec):
                    raise _wrong("where key frames depend on frames before them")
        except av.FFmpegError as error:
            raise Unreadable(reason_of(error)) from None
    return count


def _is_clean_start(packet: Any, codec: str) -> bool:
    """Whether nothing behind a key frame needs what is before it.

    decord seeks to a key frame and counts from there; pictures that cannot be decoded then are not counted.
    In H.264 and HEVC only an IDR picture is sure to have none (open GOPs and intra refresh have no other).
    """
    if codec not in _NAL_LENGTH_AT:
        return True
    record = packet.stream.codec_context.extradata or b""
    at = _NAL_LENGTH_AT[codec]
    if len(record) <= at or record[0] != 1:
        return False
    width, content, start = (record[at] & 3) + 1, bytes(packet), 0
    while start + width < len(content):
        header = content[start + width]
        if (header & 31) == 5 if codec == "h264" else (header >> 1 & 63) in (19, 20):
            return True
        start += width + int.from_bytes(content[start : start + width], "big")
    return False


def _wrong(where: str) -> Unreadable:
    return Unreadable(f"decord takes wrong frames {where}: choose the decoder auto or pyav")


def _reason(error: Exception) -> str:
    """The first line of decord's message, without its source position."""
    if isinstance(error, UnicodeEncodeError):
        return "decord opens no name that is not UTF-8: choose the decoder auto or pyav"
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return line.split("] ", 1)[-1].split("Check failed: ", 1)[-1]
