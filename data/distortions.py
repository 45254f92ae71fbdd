"""Distortions for the demo's clips and for distortion ladders: codecs at falling bit rates, and spatial and
temporal distortions.

Every kind takes a strength in [0, 1]: 0 is almost invisible, and 1 is severe at 96 x 96 pixels.
"""

import io
import os
from collections.abc import Callable
from typing import Any

import av
import numpy as np

from runtime.errors import ConfigError

try:
    import cv2
except ModuleNotFoundError:
    raise ConfigError(
        "distorting videos needs OpenCV, which the extra `demo` installs: run `make setup`, or "
        "`pip install 'opencv-python-headless>=4.13'`"
    ) from None

FPS = 25

TRAIN_KINDS = ("h264", "hevc", "blur", "noise", "rescale", "exposure", "freeze")
OOD_KINDS = ("av1", "motion_blur", "impulse", "judder")
TEMPORAL_KINDS = frozenset({"freeze", "judder"})
FORMULA_KINDS = TEMPORAL_KINDS | {"exposure"}


def distort(frames: np.ndarray, kind: str, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Distort uint8 frames [T, H, W, 3] without changing their shape. Raises KeyError for an unknown kind."""
    out = _KINDS[kind](frames, float(strength), rng)
    return np.ascontiguousarray(out, dtype=np.uint8)


def single_threaded() -> None:
    """Limit OpenCV to one thread, because worker processes share the cores."""
    cv2.setNumThreads(1)


def encode(
    file: str | io.BytesIO, frames: np.ndarray, codec: str, options: dict[str, str], pix_fmt: str = "yuv420p"
) -> None:
    """Write uint8 [T, H, W, 3] as MP4. Uses one thread, so that the result is the same on every machine."""
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream(codec, rate=FPS, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.thread_count = pix_fmt, 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _through(codec: str, frames: np.ndarray, options: dict[str, str]) -> np.ndarray:
    """Encode the frames in memory, and return the decoded result."""
    buffer = io.BytesIO()
    encode(buffer, frames, codec, options)
    buffer.seek(0)
    with av.open(buffer) as container:
        decoded = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    return np.stack(decoded)


def _h264(frames: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    options = {"crf": f"{18 + 33 * strength:.1f}", "preset": "veryfast"}
    # For such small clips x264's lookahead depends on earlier memory contents. Without lookahead, as in live
    # streaming, the same frames give the same bytes.
    params = "log-level=none:threads=1:rc-lookahead=0:mbtree=0:sync-lookahead=0"
    return _through("libx264", frames, options | {"x264-params": params})


def _hevc(frames: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    options = {"crf": f"{18 + 33 * strength:.1f}", "preset": "ultrafast"}
    params = "log-level=none:pools=none:frame-threads=1"
    return _through("libx265", frames, options | {"x265-params": params})


def _av1(frames: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Reduce bit rate and resolution together, as in streaming, down to the encoder's minimum of 64
    pixels."""
    os.environ.setdefault("SVT_LOG", "0")
    height, width = frames.shape[1:3]
    small = tuple(max(64, 2 * round(n * (1 - strength / 3) / 2)) for n in (width, height))
    options = {"crf": str(round(20 + 43 * strength**0.5)), "preset": "10", "svtav1-params": "lp=1"}
    rung = np.stack([cv2.resize(f, small, interpolation=cv2.INTER_AREA) for f in frames])
    decoded = _through("libsvtav1", rung, options)
    return np.stack([cv2.resize(f, (width, height), interpolation=cv2.INTER_CUBIC) for f in decoded])


def _blur(frames: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    sigma = 0.3 + 0.5 * strength + 2.2 * strength**2
    return np.stack([cv2.GaussianBlur(f, (0, 0), sigma) for f in frames])


def _motion_blur(frames: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Blur along a straight line of up to 13 pixels in a random direction."""
    length = 1 + 12 * strength
    kernel = np.zeros((15, 15), np.float32)
    dx, dy = np.array([np.cos(angle := rng.uniform(0, np.pi)), np.sin(angle)]) * length / 2
    # cv2.line accepts fixed-point end points, which gives sub-pixel accuracy.
    ends = [(round((7 + s * dx) * 256), round((7 + s * dy) * 256)) for s in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_AA, shift=8)
    kernel /= kernel.sum()
    return np.stack([cv2.filter2D(f, -1, kernel) for f in frames])


def _noise(frames: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    noisy = frames + rng.normal(0, 1 + 39 * strength, frames.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _impulse(frames: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Add salt-and-pepper noise to up to 20 % of the pixels."""
    hit = rng.random(frames.shape[:3]) < 0.002 + 0.2 * strength**2
    colour = np.where(rng.random(frames.shape[:3]) < 0.5, 0, 255)[..., None]
    return np.where(hit[..., None], colour, frames).astype(np.uint8)


def _rescale(frames: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Shrink frames by a factor of up to 6, and enlarge them to the original size."""
    height, width = frames.shape[1:3]
    small = (max(8, round(width / (1 + 5 * strength))), max(8, round(height / (1 + 5 * strength))))
    up = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR
    return np.stack(
        [cv2.resize(cv2.resize(f, small, interpolation=cv2.INTER_AREA), (width, height), interpolation=up)
         for f in frames]
    )  # fmt: skip


def _exposure(frames: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Over- or underexpose by up to 4 stops, with clipping, as a wrongly set camera does."""
    stops = 4 * strength * (1 if rng.random() < 0.5 else -1)
    linear = (frames / 255.0) ** 2.2 * 2.0**stops
    return (np.clip(linear, 0, 1) ** (1 / 2.2) * 255).round().astype(np.uint8)


def _freeze(frames: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Repeat one frame for a share `strength` of the clip."""
    length = round(strength * (len(frames) - 1))
    start = int(rng.integers(0, len(frames) - length))
    out = frames.copy()
    out[start : start + length + 1] = frames[start]
    return out


def _judder(frames: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Replace up to all frames by frames that are at most 4 positions away."""
    n = len(frames)
    moved = rng.random(n) < strength
    jump = rng.integers(1, 2 + round(3 * strength), n) * rng.choice([-1, 1], n)
    order = np.where(moved, np.clip(np.arange(n) + jump, 0, n - 1), np.arange(n))
    return frames[order]


_KINDS: dict[str, Callable[[np.ndarray, float, np.random.Generator], np.ndarray]] = {
    "h264": _h264,
    "hevc": _hevc,
    "av1": _av1,
    "blur": _blur,
    "motion_blur": _motion_blur,
    "noise": _noise,
    "impulse": _impulse,
    "rescale": _rescale,
    "exposure": _exposure,
    "freeze": _freeze,
    "judder": _judder,
}
