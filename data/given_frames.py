"""Frames that a program passes instead of a file. They are sampled and resized like the frames of a file."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from data.frames import FrameInfo, decode_open
from data.picture import Picture
from data.video_file import OpenVideo


def as_arrays(frames: Any) -> list[np.ndarray]:
    """Return the videos in an array or a tensor: uint8 [T, H, W, 3], or [B, T, H, W, 3] for a batch.

    Raises ValueError, with the fix, for any other input.
    """
    array = np.asarray(frames.detach().cpu() if hasattr(frames, "detach") else frames)
    if array.dtype != np.uint8:
        raise ValueError(
            f"frames are {array.dtype}: pass uint8 from 0 to 255; undo a normalisation, or multiply by "
            f"255, and round"
        )
    if array.ndim not in (4, 5) or array.shape[-1] != 3 or 0 in array.shape:
        raise ValueError(
            f"frames have the shape {list(array.shape)}: pass [T, H, W, 3] or [B, T, H, W, 3], RGB; "
            f"numpy's moveaxis(x, -3, -1) and torch's x.movedim(-3, -1) put channels last"
        )
    return [array] if array.ndim == 4 else list(array)


def decode_array(
    frames: np.ndarray, n_frames: int, max_px: int | None = None
) -> tuple[np.ndarray, FrameInfo]:
    """Sample and resize frames in memory, uint8 [T, H, W, 3], as `decode_video` does for a file."""
    return decode_open(_Given(frames), n_frames, max_px)


class _Given(OpenVideo):
    decoder = "none: frames were handed over"

    def __init__(self, frames: np.ndarray) -> None:
        self._frames = frames
        self.n_frames = len(frames)

    def times_s(self) -> np.ndarray:
        return np.arange(self.n_frames + 1, dtype=np.float64)

    def pictures(self, numbers: Sequence[int]) -> Iterator[Picture]:
        return (Picture(np.ascontiguousarray(self._frames[number]), Fraction(1)) for number in numbers)
