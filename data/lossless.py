"""Clips without loss: decoding gives back the pixels that were written."""

from pathlib import Path

import numpy as np

from data.distortions import FPS


def single_threaded() -> None:
    """Worker processes share the cores: one thread each."""
    import cv2

    cv2.setNumThreads(1)


def write_lossless(path: Path, frames: np.ndarray) -> None:
    """Write uint8 [T, H, W, 3] so that decoding gives back the same bytes."""
    import av

    options = {"qp": "0", "preset": "ultrafast", "x264-params": "log-level=none:threads=1"}
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264rgb", rate=FPS, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb24"
        stream.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
