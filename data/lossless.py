"""Writes clips losslessly."""

from pathlib import Path

import numpy as np

from data.distortions import encode


def write_lossless(path: Path, frames: np.ndarray) -> None:
    """Write uint8 [T, H, W, 3] such that decoding returns the same values."""
    options = {"qp": "0", "preset": "ultrafast", "x264-params": "log-level=none:threads=1"}
    encode(str(path), frames, "libx264rgb", options, "rgb24")
