"""decord behind the seam of data/frames.py. It counts frames exactly and turns them upright by itself."""

from importlib import metadata

import decord
import numpy as np

from data.frames import Unreadable

_REFUSALS = (decord.DECORDError, RuntimeError, OSError)


# Where each packet begins with its sync byte: as broadcast, and with the time codes of a Blu-ray disc.
_TRANSPORT_STREAMS = ((0, 188), (4, 192))
_SYNC = 0x47


class DecordVideo:
    decoder = f"decord {metadata.version('decord')}"

    def __init__(self, path: str) -> None:
        decord.logging.set_level(decord.logging.QUIET)
        if _is_transport_stream(path):
            raise Unreadable("decord takes wrong frames out of transport streams")
        try:
            self._reader = decord.VideoReader(path, num_threads=1)
        except _REFUSALS as error:
            raise Unreadable(_reason(error)) from None
        self.n_frames = len(self._reader)

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


def _is_transport_stream(path: str) -> bool:
    with open(path, "rb") as file:
        head = file.read(1024)
    return any(
        len(head) > start + 3 * size and all(head[start + i * size] == _SYNC for i in range(4))
        for start, size in _TRANSPORT_STREAMS
    )


def _reason(error: Exception) -> str:
    """The first line of decord's message, without its source position."""
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "cannot find video stream" in line:
        return "it has no video stream"
    return line.split("] ", 1)[-1].split("Check failed: ", 1)[-1]
