"""PyAV behind the seam of data/frames.py.

The packets are read once without decoding, which tells every frame's time; a wanted frame is then decoded
from the key frame before it.
"""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import chain
from typing import Any

import av
import numpy as np

from data.frames import Unreadable


class PyAVVideo:
    decoder = f"PyAV {av.__version__}"

    def __init__(self, path: str) -> None:
        self._path = path
        self._open()
        try:
            # Times alone: a long video's packets would fill the memory.
            packets = [
                (p.pts, p.is_keyframe, p.duration)
                for p in self._container.demux(self._stream)
                if p.size and not p.is_discard
            ]
        except av.FFmpegError as error:
            self.close()
            raise Unreadable(_reason(error)) from None
        self.n_frames = len(packets)
        if self._stream.frames > self.n_frames:
            self.close()
            raise Unreadable(f"it holds {self.n_frames} of its {self._stream.frames} frames")
        # Old containers give no times; frames are then counted from the start.
        self._timed = all(pts is not None for pts, _, _ in packets)
        self._times = sorted(pts for pts, _, _ in packets) if self._timed else list(range(self.n_frames))
        self._key_times = sorted(pts for pts, key, _ in packets if key) if self._timed else [0]
        self._last_duration = max(packets)[2] or 0 if packets and self._timed else 0

    def times_s(self) -> np.ndarray:
        rate = float(self._stream.average_rate or 25)
        unit = float(self._stream.time_base or 0) if self._timed else 1 / rate
        times = np.array(self._times, dtype=np.float64)
        last = (self._last_duration * unit if self._timed else 0) or 1 / rate
        return np.append((times - times[0]) * unit, (times[-1] - times[0]) * unit + last)

    def frames(self, indices: np.ndarray) -> np.ndarray:
        wanted = sorted({int(i) for i in indices})
        try:
            found = dict(zip(wanted, self._decode([self._times[i] for i in wanted]), strict=True))
        except av.FFmpegError as error:
            raise Unreadable(_reason(error)) from None
        return np.stack([found[int(i)] for i in indices])

    def _open(self) -> None:
        try:
            self._container = av.open(self._path)
        except (av.FFmpegError, OSError) as error:
            raise Unreadable(_reason(error)) from None
        if not self._container.streams.video:
            self._container.close()
            raise Unreadable("it has no video stream")
        self._stream = self._container.streams.video[0]
        self._stream.codec_context.thread_count = 1

    def close(self) -> None:
        self._container.close()

    def _decode(self, wanted: list[int]) -> Iterator[np.ndarray]:
        """The frames shown at the times `wanted`, which ascend."""
        decoded: Iterator[tuple[int, Any]] = iter(())
        position: int | None = None
        for time in wanted:
            key = self._key_times[max(0, bisect_right(self._key_times, time) - 1)]
            if position is None or key > position:
                decoded = self._decoded_from(key)
            shown = next((item for item in decoded if item[0] >= time), None)
            if shown is None:
                raise Unreadable("it ends before its last frame")
            position, frame = shown
            if position != time:
                raise Unreadable("a frame in the middle cannot be decoded")
            yield _upright(frame)

    def _decoded_from(self, key_time: int) -> Iterator[tuple[int, Any]]:
        """(time, frame) from the key frame on, or from earlier."""
        self._container.seek(key_time if self._timed else 0, stream=self._stream)
        decoded = self._decoded()
        first = next(decoded, None)
        if first is None or first[0] > key_time:
            # A stream without an index is searched by its bytes, and the search may land too late.
            self.close()
            self._open()
            return self._decoded()
        return chain([first], decoded)

    def _decoded(self) -> Iterator[tuple[int, Any]]:
        for count, frame in enumerate(self._container.decode(self._stream)):
            yield (frame.pts if self._timed else count), frame


def _upright(frame: Any) -> np.ndarray:
    pixels = frame.to_ndarray(format="rgb24")
    return np.rot90(pixels, k=round(frame.rotation / 90)) if frame.rotation else pixels


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
