"""The one seam to decord: which frames of a file the model looks at, and their pixels.

decord is unmaintained and may crash or hang on a damaged file, so training calls this in processes that may
be killed (data/decode.py).
"""

from pathlib import Path

import numpy as np


class VideoError(Exception):
    """A video cannot be read; says which and why. Travels between processes."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def frame_indices(n_total: int, n_frames: int) -> np.ndarray:
    """The middle frame of each of `n_frames` equal segments of a video of `n_total` frames, int64 [n_frames].

    A video with fewer frames than segments shows some of them more than once.
    """
    if n_total < 1 or n_frames < 1:
        raise ValueError(f"cannot take {n_frames} frame(s) out of {n_total}")
    return ((np.arange(n_frames) + 0.5) * n_total / n_frames).astype(np.int64)


def read_frames(path: str | Path, n_frames: int, max_px: int | None = None) -> np.ndarray:
    """Decode the frames of `frame_indices`.

    Args:
        max_px: frames whose longer side exceeds this are shrunk to it, their shape kept.
    Returns:
        uint8 [n_frames, height, width, 3], RGB.
    Raises:
        VideoError: if the file is missing, empty, truncated or no video.
    """
    import decord

    name = str(path)
    try:
        size = Path(path).stat().st_size
    except OSError as error:
        raise VideoError(name, error.strerror or str(error)) from None
    if size == 0:
        raise VideoError(name, "the file is empty")
    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(name, num_threads=1)
        n_total = len(reader)
        if n_total == 0:
            raise VideoError(name, "the video has no frames")
        frames = reader.get_batch(frame_indices(n_total, n_frames)).asnumpy()
    except (decord.DECORDError, RuntimeError, OSError) as error:
        raise VideoError(name, f"not a readable video ({_reason(error)})") from None
    if max_px is not None:
        frames = _shrink(frames, max_px)
    return np.ascontiguousarray(frames)


def _shrink(frames: np.ndarray, max_px: int) -> np.ndarray:
    from PIL import Image

    height, width = frames.shape[1:3]
    longest = max(height, width)
    if longest <= max_px:
        return frames
    size = (max(1, round(width * max_px / longest)), max(1, round(height * max_px / longest)))
    resample = Image.Resampling.LANCZOS
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, resample)) for frame in frames])


def _reason(error: Exception) -> str:
    """The first line of decord's message, without its source position."""
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return line.split("] ", 1)[-1].split("Check failed: ", 1)[-1]
