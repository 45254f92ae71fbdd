"""Decodes with decord, which rotates frames upright by itself.

decord silently returns wrong frames for many containers and codecs, for streams whose key frames depend on
earlier frames, and for files whose packets do not correspond one to one to pictures. So this module uses
decord only for the kinds of files of which every frame was verified. A file's packets show its kind.

decord's thread decodes ahead of the reader without a limit, so memory grows with the number of frames between
two seeks (`python -m benchmarks.decode_memory --decoder decord`). PyAV holds one frame.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from importlib import metadata

import decord
import numpy as np

from data.containers import family_of, first_frame, open_container, video_stream
from data.packets import PacketIndex, index_packets
from data.picture import Picture, orientation
from data.video_file import OpenVideo, Unreadable

_REFUSALS = (decord.DECORDError, RuntimeError, OSError, UnicodeEncodeError)

_RIGHT = {
    "mov": {"h264", "hevc", "vp9", "mjpeg"},
    "matroska": {"h264", "hevc", "vp8", "vp9"},
}
"""Codecs that decord decodes correctly, by container."""


class DecordVideo(OpenVideo):
    decoder = f"decord {metadata.version('decord')}"

    def __init__(self, path: str) -> None:
        self._index, turned = trusted_packets(path)
        self.facts = self._index.facts
        sar = Fraction(self.facts.sar.replace(":", "/"))
        self._sar = 1 / sar if turned else sar
        decord.logging.set_level(decord.logging.QUIET)
        try:
            self._reader = decord.VideoReader(path, num_threads=1)
        except _REFUSALS as error:
            raise Unreadable(_reason(error)) from None
        self.n_frames = len(self._reader)
        if self.n_frames != len(self._index.times):
            raise _wrong(f"where it counts {self.n_frames} frames in {len(self._index.times)} packets")

    def times_s(self) -> np.ndarray:
        spans = np.asarray(self._reader.get_frame_timestamp(range(self.n_frames)), dtype=np.float64)
        return np.append(spans[:, 0], spans[-1, 1]) - spans[0, 0]

    def pictures(self, numbers: Sequence[int]) -> Iterator[Picture]:
        for number in numbers:
            try:
                yield Picture(self._reader[number].asnumpy(), self._sar)
            except _REFUSALS as error:
                raise Unreadable(_reason(error)) from None

    def close(self) -> None:
        del self._reader


def trusted_packets(path: str) -> tuple[PacketIndex, bool]:
    """Return the index of the packets, and True if frames are shown rotated by a quarter turn. Raises
    Unreadable if decord would decode the file incorrectly."""
    with open_container(path) as container:
        stream = video_stream(container)
        family, codec = family_of(container), stream.codec_context.codec.canonical_name
        if codec not in _RIGHT.get(family, ()):
            raise _wrong(f"out of {codec} in {family}")
        index = index_packets(container, stream, path)
        if index.uncounted:
            raise _wrong(f"of a file that it cannot count the frames of: {index.uncounted}")
        if index.facts.truncated:
            raise _wrong(f"of a file that is cut short: {index.facts.truncated}")
        if index.edited:
            raise _wrong("out of a video that was cut without re-encoding it")
        if not index.clean_keys:
            raise _wrong("where key frames depend on frames before them")
    transposed, flip_rows, flip_columns = orientation(first_frame(path))
    if transposed == (flip_rows == flip_columns):
        raise _wrong("of a video that is shown mirrored")
    return index, transposed


def _wrong(where: str) -> Unreadable:
    return Unreadable(f"decord takes wrong frames {where}: choose the decoder auto or pyav")


def _reason(error: Exception) -> str:
    """Return the first line of decord's message, without the position in decord's source."""
    if isinstance(error, UnicodeEncodeError):
        return "decord opens no name that is not UTF-8: choose the decoder auto or pyav"
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return line.split("] ", 1)[-1].split("Check failed: ", 1)[-1]
