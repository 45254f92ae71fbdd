"""Clips without loss: decoding gives back the pixels that were written."""

from pathlib import Path

import numpy as np

from data.distortions import encode


def write_lossless(path: Path, frames: np.ndarray) -> None:
    """Write uint8 [T, H, W, 3] so that decoding gives back the same bytes."""
    options = {"qp": "0", "preset": "ultrafast", "x264-params": "log-level=none:threads=1"}
    encode(str(path), frames, "libx264rgb", options, "rgb24")
