"""The frames of two videos, to be shown in one prompt."""

from dataclasses import replace

import numpy as np

from data.frames import FrameInfo, look_at
from data.video_file import DecoderName


def look_at_pair(
    first: str,
    second: str,
    n_frames: int,
    max_px: int | None = None,
    decoder: DecoderName = "auto",
    window_s: tuple[float, float] | None = None,
    strict: bool = True,
    square: bool = True,
    frame_rate: float | None = None,
) -> tuple[np.ndarray, FrameInfo]:
    """`look_at` both videos; half of the frames are of each.

    Where their sizes differ, frames are centred on black: to scale one of the two would change its quality.

    Returns:
        uint8 [n_frames, height, width, 3], those of `first` before those of `second`, and what they are.
    Raises:
        VideoError: as `look_at`.
        ValueError: if `n_frames` is odd.
    """
    if n_frames % 2:
        raise ValueError(f"n_frames is {n_frames}: two videos cannot have half each")
    looks = [
        look_at(path, n_frames // 2, max_px, decoder, window_s, strict, square, frame_rate)
        for path in (first, second)
    ]
    height = max(info.px[0] for _, info in looks)
    width = max(info.px[1] for _, info in looks)
    frames = np.concatenate([_centred(frames, height, width) for frames, _ in looks])
    return frames, replace(looks[0][1], beside=looks[1][1])


def _centred(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """[T, h, w, 3] on a black [T, height, width, 3]."""
    top, left = (height - frames.shape[1]) // 2, (width - frames.shape[2]) // 2
    canvas = np.zeros((len(frames), height, width, 3), dtype=np.uint8)
    canvas[:, top : top + frames.shape[1], left : left + frames.shape[2]] = frames
    return canvas
