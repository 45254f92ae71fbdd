"""PyAV behind the seam of data/frames.py.

The packets are read once without decoding, which tells every frame's time; a wanted frame is then decoded
from the key frame before it. Where times or seeking cannot be relied on, all is decoded from the start and
the frames are counted as they come.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import av
import numpy as np

from data.containers import open_container, reason_of, video_stream
from data.video_file import Unreadable

_GUESSED_TIMES = "asf"
"""The container that stores one time a packet: where frames are not shown in the order of their packets,
FFmpeg guesses, and guesses otherwise behind a seek."""


class _Lost(Exception):
    """Seeking does not lead to a frame that the packets promise."""


@dataclass(frozen=True, slots=True)
class _Packet:
    """Of a frame that is shown. Times are in units of the stream."""

    pts: Any  # an integer or None, as dts
    dts: Any
    is_key: bool
    duration: int


class PyAVVideo:
    decoder = f"PyAV {av.__version__}"

    def __init__(self, path: str) -> None:
        self._path = path
        self._open()
        try:
            self._find_frames()
        except (av.FFmpegError, Unreadable) as error:
            self.close()
            raise Unreadable(reason_of(error)) from None
        self.n_frames = len(self._times)

    def times_s(self) -> np.ndarray:
        rate = float(self._stream.average_rate or 25)
        unit = float(self._stream.time_base or 0)
        if None in self._times or not unit:
            return np.arange(self.n_frames + 1) / rate
        usual = max(1, round(1 / rate / unit))
        steps = np.diff(np.array(self._times, dtype=np.int64))
        # Times that start anew go on from where they were.
        steps[steps <= 0] = usual
        return np.concatenate([[0], np.cumsum([*steps, self._last_duration or usual])]) * unit

    def frames(self, indices: np.ndarray) -> np.ndarray:
        wanted = sorted({int(i) for i in indices})
        try:
            found = self._by_seeking(wanted) or self._in_order(wanted)
        except av.FFmpegError as error:
            raise Unreadable(reason_of(error)) from None
        sizes = sorted({(frame.shape[1], frame.shape[0]) for frame in found.values()})
        if len(sizes) > 1:
            shown = " and ".join(f"{width}x{height}" for width, height in sizes)
            raise Unreadable(f"its frames are of several sizes, {shown}: encode it anew at one")
        return np.stack([found[int(i)] for i in indices])

    def close(self) -> None:
        self._container.close()

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

    def _find_frames(self) -> None:
        """When each frame is shown, and from where it can be decoded. Raises Unreadable."""
        count = 0
        packets = []
        for packet in self._container.demux(self._stream):
            count += packet.size > 0
            if packet.size and not packet.is_discard:
                # Times alone: a long video's packets would fill the memory.
                packets.append(_Packet(packet.pts, packet.dts, packet.is_keyframe, packet.duration or 0))
        family = self._container.format.name
        # MPEG-4 in AVI may hold two frames in a packet, and the header counts the place of the second.
        if self._stream.frames > count + (family == "avi"):
            raise Unreadable(f"it holds {count} of its {self._stream.frames} frames")
        self._seekable = family != _GUESSED_TIMES and _in_one_order(packets)
        self._times: list[Any]
        if not self._seekable:
            self._reopen()
            decoded = [frame.pts for frame in self._container.decode(self._stream)]
            clock = [p.dts for p in packets]
            # One frame a packet: whichever they are, they are shown at the pace of the packets.
            paced = len(clock) == len(decoded) and _ascend(clock) and not _ascend(decoded)
            self._times = clock if paced else decoded
            self._last_duration = 0
            return
        self._times = sorted(p.pts for p in packets)
        self._key_times = sorted(p.pts for p in packets if p.is_key) or self._times[:1]
        self._last_duration = max(packets, key=lambda p: p.pts or 0).duration if packets else 0
        if self._times and self._times[0] < self._key_times[0]:
            self._leave_out_what_has_no_start()

    def _leave_out_what_has_no_start(self) -> None:
        """A stream that was cut out of another begins with pictures that refer to what is not there; decoders
        show none of them."""
        first, shown = self._key_times[0], set()
        self._reopen()
        for frame in self._container.decode(self._stream):
            if frame.pts is None or frame.pts >= first:
                break
            shown.add(frame.pts)
        self._times = [time for time in self._times if time >= first or time in shown]

    def _by_seeking(self, wanted: Sequence[int]) -> dict[int, np.ndarray]:
        """The frames, or nothing if seeking does not find them."""
        if not self._seekable:
            return {}
        try:
            return dict(zip(wanted, self._decode([self._times[i] for i in wanted]), strict=True))
        except (_Lost, av.FFmpegError):
            return {}

    def _in_order(self, wanted: Sequence[int]) -> dict[int, np.ndarray]:
        """The frames, counted from the start. Raises Unreadable if there are not as many as there should be:
        nobody knows then which are missing."""
        self._reopen()
        found = {}
        count = 0
        for number, frame in enumerate(self._container.decode(self._stream)):
            if number in wanted:
                found[number] = _upright(frame)
            count = number + 1
        if count != self.n_frames:
            raise Unreadable(f"{count} of its {self.n_frames} frames can be decoded")
        return found

    def _decode(self, wanted: list[int]) -> Iterator[np.ndarray]:
        """The frames shown at the times `wanted`, which ascend. Raises _Lost."""
        decoded: Iterator[tuple[int, Any]] = iter(())
        position: int | None = None
        for time in wanted:
            key = self._key_times[max(0, bisect_right(self._key_times, time) - 1)]
            if position is None or key > position:
                decoded = self._decoded_from(key)
            shown = next((item for item in decoded if item[0] >= time), None)
            if shown is None:
                raise _Lost
            position, frame = shown
            if position != time:
                raise _Lost
            yield _upright(frame)

    def _decoded_from(self, key_time: int) -> Iterator[tuple[int, Any]]:
        """(time, frame) from the key frame on, or from earlier."""
        self._container.seek(key_time, stream=self._stream)
        decoded = self._decoded()
        first = next(decoded, None)
        if first is None or first[0] > key_time:
            # A stream without an index is searched by its bytes, and the search may land too late.
            self._reopen()
            return self._decoded()
        return chain([first], decoded)

    def _decoded(self) -> Iterator[tuple[int, Any]]:
        for frame in self._container.decode(self._stream):
            if frame.pts is None:
                raise _Lost
            yield frame.pts, frame


def _ascend(times: Sequence[Any]) -> bool:
    return None not in times and all(before < after for before, after in pairwise(times))


def _in_one_order(packets: Sequence[_Packet]) -> bool:
    """Whether every frame has a time of its own, on one clock that never falls (as it does where files were
    joined end to end)."""
    times = [p.pts for p in packets]
    if None in times or len(set(times)) < len(times):
        return False
    clock = [p.dts for p in packets if p.dts is not None]
    return all(before <= after for before, after in pairwise(clock))


def _upright(frame: Any) -> np.ndarray:
    pixels = frame.to_ndarray(format="rgb24")
    return np.rot90(pixels, k=round(frame.rotation / 90)) if frame.rotation else pixels
