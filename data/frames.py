"""Which frames of a file the model looks at, and their pixels. The one seam to the decoders.

decord reads first, the containers and codecs that it reads right; PyAV reads all others. Decoders may crash
or hang on a damaged file, so this is called in processes that may be killed (data/decode.py).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import numpy as np

from data.facts import Refusal, VideoFacts

T = TypeVar("T")

DecoderName = Literal["auto", "decord", "pyav"]
_ORDER: dict[DecoderName, tuple[DecoderName, ...]] = {
    "auto": ("decord", "pyav"),
    "decord": ("decord",),
    "pyav": ("pyav",),
}

_SLACK_S = 0.05
"""How far beyond the end a window may reach: people round, and containers do, too."""


class VideoError(Exception):
    """A video cannot be read; says which and why. Travels between processes."""

    def __init__(self, path: str, reason: str, kind: Refusal = "unreadable") -> None:
        super().__init__(path, reason, kind)
        self.path = path
        self.reason = reason
        self.kind: Refusal = kind

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Unreadable(Exception):
    """A decoder's reason for refusing a file."""

    def __init__(self, reason: str, kind: Refusal = "unreadable") -> None:
        super().__init__(reason)
        self.kind: Refusal = kind


class OpenVideo(Protocol):
    """A file as a decoder sees it. Frames are counted from 0 in the order of presentation; the calls raise
    Unreadable."""

    decoder: str
    """Name and version, for the record."""
    n_frames: int

    def times_s(self) -> np.ndarray:
        """When each frame is shown, from 0 on, and when the last one ends: float64 [n_frames + 1]."""
        ...

    def frames(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [n, height, width, 3], RGB, upright."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class FrameInfo:
    """What was looked at: `indices` of `n_total` frames, decoded at `source_px` (height, width) and handed on
    at `px`; `window_s` is what it was looked at from and to, if not all of it; `facts` is what else the file
    told; `beside` is the same of the second video of a pair."""

    indices: tuple[int, ...]
    n_total: int
    source_px: tuple[int, int]
    px: tuple[int, int]
    decoder: str
    facts: VideoFacts = field(default_factory=VideoFacts)
    window_s: tuple[float, float] | None = None
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
    frame_rate: float | None = None,
) -> tuple[np.ndarray, FrameInfo]:
    """Decode the frames of `frame_indices`.

    Args:
        max_px: frames whose longer side exceeds this are shrunk to it, their shape kept.
        decoder: `auto` takes decord for what it reads right, and PyAV for all else.
        window_s: (start, end), seconds: only frames shown in between count. The end may be infinite.
        frame_rate: pictures a second, if the path is a folder of numbered pictures.
    Returns:
        uint8 [n_frames, height, width, 3], RGB, and what they are.
    Raises:
        VideoError: if the file is missing, empty, truncated or no video, or has no frame in the window.
    """

    def look(video: OpenVideo) -> tuple[np.ndarray, FrameInfo]:
        first, last, window = _span(video, window_s)
        indices = first + frame_indices(last - first, n_frames)
        frames = video.frames(indices)
        small = shrink(frames, max_px)
        info = FrameInfo(
            indices=tuple(int(i) for i in indices),
            n_total=video.n_frames,
            source_px=(frames.shape[1], frames.shape[2]),
            px=(small.shape[1], small.shape[2]),
            decoder=video.decoder,
            window_s=window,
        )
        return np.ascontiguousarray(small), info

    return _with_decoder(path, decoder, frame_rate, look)


def video_duration_s(
    path: str | Path, decoder: DecoderName = "auto", frame_rate: float | None = None
) -> float:
    """How long a video is, in seconds. Raises VideoError like `look_at`."""
    return _with_decoder(path, decoder, frame_rate, lambda video: float(_times_s(video)[-1]))


def clip_window(window_s: tuple[float, float], duration_s: float) -> tuple[float, float]:
    """The window, its end no later than that of the video. Raises ValueError if it begins or ends beyond."""
    start_s, end_s = window_s
    beyond = start_s if start_s >= duration_s else end_s if end_s > duration_s + _SLACK_S else None
    if beyond is not None and math.isfinite(beyond):
        raise ValueError(f"it lasts {duration_s:.6g} s, and nothing of it is shown at {beyond:g} s")
    return start_s, min(end_s, duration_s)


def _with_decoder(
    path: str | Path, decoder: DecoderName, frame_rate: float | None, use: Callable[[OpenVideo], T]
) -> T:
    """What `use` makes of the file, with the first decoder that can read it."""
    name, reason = str(path), ""
    try:
        size = Path(path).stat().st_size
    except OSError as error:
        raise VideoError(name, error.strerror or str(error)) from None
    if size == 0:
        raise VideoError(name, "the file is empty")
    for opener in _openers(name, decoder, frame_rate):
        try:
            video = opener()
            try:
                if video.n_frames == 0:
                    raise Unreadable("it has no frames")
                return use(video)
            finally:
                video.close()
        except Unreadable as error:
            reason = str(error)
    raise VideoError(name, f"not a readable video ({reason})")


def _openers(path: str, decoder: DecoderName, frame_rate: float | None) -> Sequence[Callable[[], OpenVideo]]:
    """What may open the path, in the order of trying."""
    if not Path(path).is_dir():
        return [partial(_open, path, choice) for choice in _ORDER[decoder]]
    if frame_rate is None:
        raise VideoError(path, "is a folder: `score --as-video` takes one of numbered pictures for a video")
    from data.picture_folder import PictureFolder

    return [partial(PictureFolder, path, frame_rate)]


def _open(path: str, decoder: DecoderName) -> OpenVideo:
    if decoder == "decord":
        from data.decord_video import DecordVideo

        return DecordVideo(path)
    from data.pyav_video import PyAVVideo

    return PyAVVideo(path)


def _span(
    video: OpenVideo, window_s: tuple[float, float] | None
) -> tuple[int, int, tuple[float, float] | None]:
    """First frame of the window, the one after its last, and the window without what is beyond the end."""
    if window_s is None:
        return 0, video.n_frames, None
    times = _times_s(video)
    try:
        window_s = clip_window(window_s, float(times[-1]))
    except ValueError as error:
        raise Unreadable(str(error), "no_times") from None
    first, last = np.searchsorted(times[:-1], window_s)
    if last <= first:
        raise Unreadable(f"no frame is shown from {window_s[0]:g} to {window_s[1]:g} s", "no_times")
    return int(first), int(last), window_s


def _times_s(video: OpenVideo) -> np.ndarray:
    """Its times, float64 [n_frames + 1]. Raises Unreadable if they are none."""
    times = video.times_s()
    if not (np.isfinite(times).all() and (np.diff(times) >= 0).all() and times[-1] > 0):
        raise Unreadable(f"{video.decoder} finds times in it that do not ascend")
    return times


def shrink(frames: np.ndarray, max_px: int | None) -> np.ndarray:
    """Frames whose longer side is at most `max_px`, their shape kept."""
    from PIL import Image

    height, width = frames.shape[1:3]
    longest = max(height, width)
    if max_px is None or longest <= max_px:
        return frames
    size = (max(1, round(width * max_px / longest)), max(1, round(height * max_px / longest)))
    resample = Image.Resampling.LANCZOS
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, resample)) for frame in frames])
