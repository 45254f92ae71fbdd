"""Which frames of a file the model looks at, and their pixels. The one seam to the decoders.

decord reads first, the containers and codecs that it reads right; PyAV reads all others. Decoders may crash
or hang on a damaged file, so this is called in processes that may be killed (data/decode.py).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from data.video_file import DecoderName, OpenVideo, Unreadable, VideoError
from runtime.killable import run_isolated, serve

T = TypeVar("T")

_ORDER: dict[DecoderName, tuple[DecoderName, ...]] = {
    "auto": ("decord", "pyav"),
    "decord": ("decord",),
    "pyav": ("pyav",),
}


@dataclass(frozen=True, slots=True)
class FrameInfo:
    """What was looked at: `indices` of `n_total` frames, decoded at `source_px` (height, width) and handed on
    at `px`; `beside` is the same of the second video of a pair."""

    indices: tuple[int, ...]
    n_total: int
    source_px: tuple[int, int]
    px: tuple[int, int]
    decoder: str
    beside: "FrameInfo | None" = None


def frame_indices(n_total: int, n_frames: int) -> np.ndarray:
    """The middle frame of each of `n_frames` equal segments of a video of `n_total` frames, int64 [n_frames].

    A video with fewer frames than segments shows some of them more than once.
    """
    if n_total < 1 or n_frames < 1:
        raise ValueError(f"cannot take {n_frames} frame(s) out of {n_total}")
    return ((np.arange(n_frames) + 0.5) * n_total / n_frames).astype(np.int64)


def read_frames(path: str | Path, n_frames: int, max_px: int | None = None) -> np.ndarray:
    """The frames of `look_at` alone."""
    return look_at(path, n_frames, max_px)[0]


def look_at(
    path: str | Path,
    n_frames: int,
    max_px: int | None = None,
    decoder: DecoderName = "auto",
    window_s: tuple[float, float] | None = None,
) -> tuple[np.ndarray, FrameInfo]:
    """Decode the frames of `frame_indices`.

    Args:
        max_px: frames whose longer side exceeds this are shrunk to it, their shape kept.
        decoder: `auto` takes decord for what it reads right, and PyAV for all else.
        window_s: (start, end), seconds: only frames shown in between count.
    Returns:
        uint8 [n_frames, height, width, 3], RGB, and what they are.
    Raises:
        VideoError: if the file is missing, empty, truncated or no video, or has no frame in the window.
    """

    def look(video: OpenVideo) -> tuple[np.ndarray, FrameInfo]:
        first, last = _span(video, window_s)
        indices = first + frame_indices(last - first, n_frames)
        frames = video.frames(indices)
        small = frames if max_px is None else _shrink(frames, max_px)
        info = FrameInfo(
            indices=tuple(int(i) for i in indices),
            n_total=video.n_frames,
            source_px=(frames.shape[1], frames.shape[2]),
            px=(small.shape[1], small.shape[2]),
            decoder=video.decoder,
        )
        return np.ascontiguousarray(small), info

    return _with_decoder(path, decoder, look)


def video_duration_s(path: str | Path, decoder: DecoderName = "auto") -> float:
    """How long a video is, in seconds. Raises VideoError like `look_at`."""
    return _with_decoder(path, decoder, lambda video: float(_times_s(video)[-1]))


def _with_decoder(path: str | Path, decoder: DecoderName, use: Callable[[OpenVideo], T]) -> T:
    """What `use` makes of the file, with the first decoder that can read it."""
    name, reason = str(path), ""
    try:
        size = Path(path).stat().st_size
    except OSError as error:
        raise VideoError(name, error.strerror or str(error)) from None
    if size == 0:
        raise VideoError(name, "the file is empty")
    for choice in _ORDER[decoder]:
        try:
            video = _open(name, choice)
            try:
                if video.n_frames == 0:
                    raise Unreadable("it has no frames")
                return use(video)
            finally:
                video.close()
        except Unreadable as error:
            reason = str(error)
    raise VideoError(name, f"not a readable video ({reason})")


def _open(path: str, decoder: DecoderName) -> OpenVideo:
    if decoder == "decord":
        from data.decord_video import DecordVideo

        return DecordVideo(path)
    from data.pyav_video import PyAVVideo

    return PyAVVideo(path)


def _span(video: OpenVideo, window_s: tuple[float, float] | None) -> tuple[int, int]:
    """First frame of the window, and the one after its last."""
    if window_s is None:
        return 0, video.n_frames
    starts = _times_s(video)[:-1]
    first, last = np.searchsorted(starts, window_s)
    if last <= first:
        raise Unreadable(f"no frame is shown from {window_s[0]:g} to {window_s[1]:g} s")
    return int(first), int(last)


def _times_s(video: OpenVideo) -> np.ndarray:
    """Its times, float64 [n_frames + 1]. Raises Unreadable if they are none."""
    times = video.times_s()
    if not (np.isfinite(times).all() and (np.diff(times) >= 0).all() and times[-1] > 0):
        raise Unreadable(f"{video.decoder} finds times in it that do not ascend")
    return times


def _shrink(frames: np.ndarray, max_px: int) -> np.ndarray:
    from PIL import Image

    height, width = frames.shape[1:3]
    longest = max(height, width)
    if longest <= max_px:
        return frames
    size = (max(1, round(width * max_px / longest)), max(1, round(height * max_px / longest)))
    resample = Image.Resampling.LANCZOS
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, resample)) for frame in frames])


def look_at_pair(
    first: str, second: str, n_frames: int, max_px: int | None = None, decoder: DecoderName = "auto"
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
    looks = [look_at(path, n_frames // 2, max_px, decoder) for path in (first, second)]
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


def duration_s(path: str, decoder: DecoderName, timeout_s: float) -> float:
    """In seconds. Raises VideoError if the file cannot be read, or not within `timeout_s`."""
    (outcome,) = run_isolated("data.frames", [[path, decoder]], 1, timeout_s)
    if outcome.failure:
        raise VideoError(path, outcome.failure)
    return float(outcome.result)


def _duration_s(job: Any) -> float:
    path, decoder = job
    try:
        return video_duration_s(path, decoder)
    except VideoError as error:
        raise ValueError(error.reason) from None


if __name__ == "__main__":
    serve(_duration_s)
