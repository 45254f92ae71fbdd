"""Files that a run meets among good ones: broken, encrypted, damaged, very short, very large."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def write(path: Path, frames: np.ndarray, codec: str = "libx264", gop: int = 12, **options: str) -> Path:
    """`frames` (uint8 [T, H, W, 3]) at 25 a second; `options` are those of the container."""
    with av.open(str(path), "w", options=options) as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.thread_count = 1
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def encrypted(path: Path, frames: np.ndarray) -> Path:
    """An MP4 whose pictures nobody can see without its key."""
    return write(
        path,
        frames,
        encryption_scheme="cenc-aes-ctr",
        encryption_key="76a6c65c5ea762046bd749a2e632ccbb",
        encryption_kid="a7e61c373e219033c21091fa607bf3b8",
    )


def damaged(path: Path, frames: np.ndarray) -> Path:
    """Some bytes of a picture in the middle are others."""
    write(path, frames)
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        middle = packets[len(packets) // 2]
        start, size = middle.pos, middle.size
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    at = rng.integers(start + size // 3, start + size, max(4, size // 10))
    for place in at:
        content[place] ^= int(rng.integers(1, 256))
    path.write_bytes(content)
    return path


def cut(path: Path, whole: Path, share: float) -> Path:
    """The first part of another file."""
    content = whole.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path
