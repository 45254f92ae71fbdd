"""Frames that a program hands over in place of a file, looked at as those of a file are."""

from typing import Any

import numpy as np

from data.frames import FrameInfo, frame_indices, shrink


def as_arrays(frames: Any) -> list[np.ndarray]:
    """The videos in an array or a tensor: uint8 [T, H, W, 3], or [B, T, H, W, 3] of a batch.

    Raises ValueError for anything else, with what would make it right.
    """
    array = np.asarray(frames.detach().cpu() if hasattr(frames, "detach") else frames)
    if array.dtype != np.uint8:
        raise ValueError(
            f"frames are {array.dtype}: hand over uint8 from 0 to 255; undo a normalisation, or multiply by "
            f"255, and round"
        )
    if array.ndim not in (4, 5) or array.shape[-1] != 3 or 0 in array.shape:
        raise ValueError(
            f"frames have the shape {list(array.shape)}: hand over [T, H, W, 3] or [B, T, H, W, 3], RGB; "
            f"numpy's moveaxis(x, -3, -1) and torch's x.movedim(-3, -1) put channels last"
        )
    return [array] if array.ndim == 4 else list(array)


def look_at_array(
    frames: np.ndarray, n_frames: int, max_px: int | None = None
) -> tuple[np.ndarray, FrameInfo]:
    """What `look_at` makes of a file that holds these frames, uint8 [T, H, W, 3]."""
    indices = frame_indices(len(frames), n_frames)
    chosen = np.ascontiguousarray(shrink(frames[indices], max_px))
    info = FrameInfo(
        indices=tuple(int(i) for i in indices),
        n_total=len(frames),
        source_px=(frames.shape[1], frames.shape[2]),
        px=(chosen.shape[1], chosen.shape[2]),
        decoder="none: frames were handed over",
    )
    return chosen, info
