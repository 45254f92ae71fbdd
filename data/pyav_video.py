"""Decodes with PyAV, in two ways.

`PyAVVideo` seeks to the key frame before a picture, using an index of the packets. It refuses a file that
does not match the index or in which the decoder finds an error. `PyAVInOrder` decodes all pictures from the
start and counts them, as a player does.
"""

import logging
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain
from typing import Any

import av
import numpy as np

from data.containers import logged_errors, open_container, video_stream
from data.damage import SentPacket, ShownPicture, damaged_pictures
from data.packets import ascend, index_packets
from data.picture import Picture, PictureMaker
from data.video_file import OpenVideo, Unreadable

_Step = tuple[Any, list[Any], bool]
"""A packet, the frames that the decoder returns for it, and whether it failed."""

_LOGGER = logging.getLogger("libav")
_LOGGER.addHandler(logging.NullHandler())
_LOGGER.propagate = False


class _OpenFile(OpenVideo):
    """A file with an index of its packets, decoded on one thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._open()
        try:
            self._index = index_packets(self._container, self._stream, path)
            self.facts = self._index.facts
            self._prepare()
        except Unreadable:
            self.close()
            raise
        self._maker = PictureMaker(Fraction(self.facts.sar.replace(":", "/")))

    def close(self) -> None:
        self._container.close()

    def _prepare(self) -> None:
        """Find and count the pictures. Raises Unreadable."""
        raise NotImplementedError

    def _open(self) -> None:
        self._container = open_container(self._path)
        try:
            self._stream = video_stream(self._container)
        except Unreadable:
            self._container.close()
            raise
        self._stream.codec_context.thread_count = 1

    def _reopen(self) -> None:
        self.close()
        self._open()

    def _decoded(self) -> Iterator[_Step]:
        """Decode from the current position. A read error counts as the end of the file, as in the ffmpeg
        program."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                return
            if packet is None:
                return
            frames, failed = _decode(packet)
            yield packet, frames, failed or packet.is_corrupt


class PyAVVideo(_OpenFile):
    decoder = f"PyAV {av.__version__}"

    def times_s(self) -> np.ndarray:
        return _times_s(self._stream, self._index.times, self._index.last_duration)

    def pictures(self, numbers: Sequence[int]) -> Iterator[Picture]:
        times, keys = self._index.times, self._key_times
        run: Iterator[Any] = iter(())
        at: int | None = None
        for number in numbers:
            key = keys[bisect_right(keys, times[number]) - 1]
            if at is None or key > times[at]:
                run, at = self._run(key), bisect_left(times, key) - 1
            while at < number:
                frame, at = next(run, None), at + 1
                if frame is None or frame.pts != times[at]:
                    raise Unreadable("seeking does not find the pictures of its packets")
            yield self._maker.picture(frame)

    def _prepare(self) -> None:
        index = self._index
        if index.uncounted:
            raise Unreadable(index.uncounted)
        if index.times and not index.seek_to:
            raise Unreadable("it has no key frame")
        self._key_times = sorted(index.seek_to)
        if index.times and index.times[0] < self._key_times[0]:
            self._leave_out_what_has_no_start(self._key_times[0])
        self.n_frames = len(index.times)

    def _leave_out_what_has_no_start(self, first_key: Any) -> None:
        """Drop the pictures before the first key frame. In a stream that was cut out of another one they
        refer to missing pictures. Raises Unreadable if the decoder shows them nevertheless."""
        self._reopen()
        first = next((frame for _, frames, _ in self._decoded() for frame in frames), None)
        if first is None or first.pts != first_key:
            raise Unreadable("it shows pictures before its first key frame")
        del self._index.times[: self._index.times.index(first_key)]

    def _run(self, start: Any) -> Iterator[Any]:
        """Yield the frames from the key frame at time `start`. Raises Unreadable."""
        frames = self._from(self._landed(start), start)
        first = next(frames, None)
        if first is None or (first.pts == start and not first.key_frame):
            raise Unreadable("a packet that is flagged as a key frame holds none")
        yield first
        yield from frames

    def _landed(self, start: Any) -> Iterator[_Step]:
        self._container.seek(self._index.seek_to[start], stream=self._stream)
        steps = self._decoded()
        first = next(steps, None)
        if first is not None and first[0].pts is not None and first[0].pts <= start:
            return chain([first], steps)
        # FFmpeg seeks in a stream without an index by bytes, and may land after the key frame.
        self._reopen()
        return self._decoded()

    def _from(self, steps: Iterator[_Step], start: Any) -> Iterator[Any]:
        """Yield the frames shown at `start` or later. Earlier frames may refer to missing ones."""
        for packet, frames, failed in steps:
            if failed and (packet.pts is None or packet.pts >= start):
                raise Unreadable("the decoder finds errors in it")
            for frame in frames:
                if frame.pts is None or frame.pts < start:
                    continue
                if frame.is_corrupt:
                    raise Unreadable("the decoder finds errors in it")
                yield frame


class PyAVInOrder(_OpenFile):
    decoder = f"PyAV {av.__version__} in order"

    def times_s(self) -> np.ndarray:
        return _times_s(self._stream, self._times, 0)

    def pictures(self, numbers: Sequence[int]) -> Iterator[Picture]:
        self._reopen()
        shown = (frame for _, frames, _ in self._decoded() for frame in frames)
        at = -1
        for number in numbers:
            while at < number:
                frame, at = next(shown, None), at + 1
            if frame is None:
                raise Unreadable("its pictures are not the same when it is decoded twice")
            yield self._maker.picture(frame, at in self._damaged)

    def _prepare(self) -> None:
        # Some demuxers return a palette or a header only with the first packet that is read.
        self._reopen()
        packets: list[SentPacket] = []
        pictures: list[ShownPicture] = []
        for packet, frames, failed in self._decoded():
            packets.append(SentPacket(packet.pts, packet.is_keyframe, failed))
            pictures += [ShownPicture(frame.pts, frame.is_corrupt) for frame in frames]
        if not pictures and packets:
            raise Unreadable("none of its pictures can be decoded")
        self._damaged = damaged_pictures(packets, pictures)
        self._times = [picture.pts for picture in pictures]
        clock = self._index.clock
        # If each packet holds one picture, pictures are shown at the packets' times.
        if len(clock) == len(self._times) and ascend(clock) and not ascend(self._times):
            self._times = clock
        self.n_frames = len(self._times)


def _decode(packet: Any) -> tuple[list[Any], bool]:
    """Return the frames that the decoder returns for a packet, and True if it found an error.

    Most decoders conceal errors and only log them, so this captures their log.
    """
    try:
        with logged_errors() as errors:
            return packet.decode(), bool(errors)
    except av.FFmpegError:
        return [], True


def _times_s(stream: Any, times: Sequence[Any], last_duration: int) -> np.ndarray:
    rate = float(stream.average_rate or 25)
    unit = float(stream.time_base or 0)
    if None in times or not unit:
        return np.arange(len(times) + 1) / rate
    usual = max(1, round(1 / rate / unit))
    steps = np.diff(np.array(times, dtype=np.int64))
    # If times restart, continue from the last one before.
    steps[steps <= 0] = usual
    return np.concatenate([[0], np.cumsum([*steps, last_duration or usual])]) * unit
