"""Selects and decodes the frames of a file that the model gets. All decoders are called from here.

PyAV is first used with seeking. If seeking might give wrong pictures, it decodes the file in order instead. A
decoder may crash or hang on a damaged file, so callers run this module in processes that can be killed
(data/decode.py). Run as a program, it reads one path per line and answers with the duration
(runtime/killable.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from data.facts import Refusal, VideoFacts
from data.fetch_settings import DEFAULT_FETCHING, Fetching
from data.file_cache import local_file
from data.video_file import DecoderName, OpenVideo, Unreadable, VideoError
from runtime.killable import run_isolated, serve

T = TypeVar("T")

_TRY_NEXT: frozenset[Refusal] = frozenset({"unreadable", "empty"})

_SLACK_S = 0.05
"""How far a window may extend beyond the end of the video, because users and containers round times."""


@dataclass(frozen=True, slots=True)
class FrameInfo:
    """Description of the decoded frames.

    `indices` are their numbers among `n_total` frames. They are stored at `source_px` (height, width) and
    returned at `px`. `window_s` is the part of the video that was sampled; None for the whole video. `beside`
    is the info of the second video of a pair.
    """

    indices: tuple[int, ...]
    n_total: int
    source_px: tuple[int, int]
    px: tuple[int, int]
    decoder: str
    facts: VideoFacts = field(default_factory=VideoFacts)
    window_s: tuple[float, float] | None = None
    beside: FrameInfo | None = None


def frame_indices(n_total: int, n_frames: int) -> np.ndarray:
    """Return the indices of the middle frames of `n_frames` equal segments of `n_total` frames, int64
    [n_frames].

    If the video has fewer frames than segments, some frames occur more than once.
    """
    if n_total < 1 or n_frames < 1:
        raise ValueError(f"cannot take {n_frames} frame(s) out of {n_total}")
    return ((np.arange(n_frames) + 0.5) * n_total / n_frames).astype(np.int64)


def read_frames(path: str | Path, n_frames: int, max_px: int | None = None) -> np.ndarray:
    """Return only the frames of `decode_video`."""
    return decode_video(path, n_frames, max_px)[0]


def decode_video(
    path: str | Path,
    n_frames: int,
    max_px: int | None = None,
    decoder: DecoderName = "auto",
    window_s: tuple[float, float] | None = None,
    strict: bool = True,
    square: bool = True,
    frame_rate: float | None = None,
    fetching: Fetching = DEFAULT_FETCHING,
) -> tuple[np.ndarray, FrameInfo]:
    """Decode the frames that `frame_indices` selects. PyAV holds one full-size frame at a time.

    Args:
        max_px: frames whose longer side exceeds this are shrunk to it, keeping the aspect ratio.
        decoder: `auto` is PyAV, which reads whatever FFmpeg reads; decord refuses files that it would read
            wrongly.
        window_s: (start, end) in seconds; only frames shown in between are sampled. The end may be infinite.
        strict: refuse a file that ends before its stated end.
        square: stretch non-square pixels to square ones.
        frame_rate: pictures per second, if the path is a folder of numbered pictures.
        fetching: settings for fetching the file, if the path is a URL.
    Returns:
        uint8 [n_frames, height, width, 3], RGB, and their FrameInfo.
    Raises:
        VideoError: if the file is missing, empty, encrypted or not a video, or has no frame in the window.
    """
    return _with_decoder(
        path,
        decoder,
        frame_rate,
        fetching,
        lambda video: decode_open(video, n_frames, max_px, window_s, strict, square),
    )


def decode_pair(
    first: str,
    second: str,
    n_frames: int,
    max_px: int | None = None,
    decoder: DecoderName = "auto",
    window_s: tuple[float, float] | None = None,
    strict: bool = True,
    square: bool = True,
    frame_rate: float | None = None,
    fetching: Fetching = DEFAULT_FETCHING,
) -> tuple[np.ndarray, FrameInfo]:
    """Decode two videos as `decode_video` does, with half of the frames from each.

    If their sizes differ, smaller frames are centred on black. Scaling one video would change its quality.

    Returns:
        uint8 [n_frames, height, width, 3], the frames of `first` before those of `second`, and their
        FrameInfo.
    Raises:
        VideoError: as `decode_video` does.
        ValueError: if `n_frames` is odd.
    """
    if n_frames % 2:
        raise ValueError(f"n_frames is {n_frames}: two videos cannot have half each")
    options = (n_frames // 2, max_px, decoder, window_s, strict, square, frame_rate, fetching)
    (frames, info), (others, beside) = (decode_video(path, *options) for path in (first, second))
    height, width = np.maximum(info.px, beside.px)
    canvas = np.zeros((n_frames, height, width, 3), dtype=np.uint8)
    for half, shown in zip(np.split(canvas, 2), (frames, others), strict=True):
        top, left = (height - shown.shape[1]) // 2, (width - shown.shape[2]) // 2
        half[:, top : top + shown.shape[1], left : left + shown.shape[2]] = shown
    return canvas, replace(info, beside=beside)


def decode_open(
    video: OpenVideo,
    n_frames: int,
    max_px: int | None = None,
    window_s: tuple[float, float] | None = None,
    strict: bool = True,
    square: bool = True,
) -> tuple[np.ndarray, FrameInfo]:
    """Decode an open video as `decode_video` does. Raises Unreadable."""
    from data.picture import fit

    facts = video.facts
    if strict and facts.truncated:
        raise Unreadable(facts.truncated, "truncated")
    first, last, window = _span(video, window_s)
    indices = first + frame_indices(last - first, n_frames)
    numbers = np.unique(indices).tolist()
    frames, source, damaged, interlaced = np.empty((0, 0, 0, 3), np.uint8), (0, 0), [], facts.interlaced
    for number, picture in zip(numbers, video.pictures(numbers), strict=True):
        small = fit(picture, max_px, square)
        size = (picture.pixels.shape[0], picture.pixels.shape[1])
        if number == numbers[0]:
            source, frames = size, np.empty((n_frames, *small.shape), np.uint8)
        elif size != source:
            raise _of_several_sizes(source, size)
        frames[indices == number] = small
        interlaced |= picture.interlaced
        damaged += [number] if picture.damaged else []
    info = FrameInfo(
        indices=tuple(int(i) for i in indices),
        n_total=video.n_frames,
        source_px=source,
        px=(frames.shape[1], frames.shape[2]),
        decoder=video.decoder,
        facts=replace(facts, interlaced=interlaced, damaged_frames=tuple(damaged)),
        window_s=window,
    )
    return frames, info


def video_duration_s(
    path: str | Path,
    decoder: DecoderName = "auto",
    frame_rate: float | None = None,
    fetching: Fetching = DEFAULT_FETCHING,
) -> float:
    """Return the length of a video in seconds. Raises VideoError as `decode_video` does."""
    return _with_decoder(path, decoder, frame_rate, fetching, lambda video: float(_times_s(video)[-1]))


def duration_s(
    path: str,
    decoder: DecoderName,
    timeout_s: float,
    frame_rate: float | None = None,
    fetching: Fetching = DEFAULT_FETCHING,
) -> float:
    """Run `video_duration_s` in a separate process. Raises VideoError, also if it takes longer than
    `timeout_s` plus the time allowed for fetching; the process is then killed."""
    job = [path, decoder, frame_rate, asdict(fetching)]
    (outcome,) = run_isolated("data.frames", [job], 1, timeout_s + fetching.wait_s([path]))
    if outcome.failure:
        raise VideoError(path, outcome.failure)
    return float(outcome.result)


def clip_window(window_s: tuple[float, float], duration_s: float) -> tuple[float, float]:
    """Limit the window to the end of the video. Raises ValueError if the window starts or ends beyond it."""
    start_s, end_s = window_s
    beyond = start_s if start_s >= duration_s else end_s if end_s > duration_s + _SLACK_S else None
    if beyond is not None and math.isfinite(beyond):
        raise ValueError(f"it lasts {duration_s:.6g} s, and nothing of it is shown at {beyond:g} s")
    return start_s, min(end_s, duration_s)


def _with_decoder(
    path: str | Path,
    decoder: DecoderName,
    frame_rate: float | None,
    fetching: Fetching,
    use: Callable[[OpenVideo], T],
) -> T:
    """Fetch the file if it is a URL, open it with the first reader that can read it, and return
    `use(video)`."""
    with local_file(str(path), fetching) as file:
        return _with_reader(str(path), file, decoder, frame_rate, use)


def _with_reader(
    name: str, file: str, decoder: DecoderName, frame_rate: float | None, use: Callable[[OpenVideo], T]
) -> T:
    """Open the local file of the video `name` with the first reader that can read it; returns
    `use(video)`."""
    try:
        size = Path(file).stat().st_size
    except OSError as error:
        raise VideoError(name, error.strerror or str(error), "missing") from None
    if size == 0:
        raise VideoError(name, "the file is empty", "empty")
    refusal = Unreadable("")
    for open_it in _readers(file, decoder, frame_rate):
        try:
            video = open_it()
            try:
                if video.n_frames == 0:
                    raise Unreadable("it has no frames", "empty")
                return use(video)
            finally:
                video.close()
        except Unreadable as error:
            refusal = error
            if error.kind not in _TRY_NEXT:
                break
    reason = str(refusal) if refusal.kind == "no_times" else f"not a readable video ({refusal})"
    raise VideoError(name, reason, refusal.kind)


def _readers(path: str, decoder: DecoderName, frame_rate: float | None) -> Sequence[Callable[[], OpenVideo]]:
    """Return functions that open the path, in the order in which to try them."""
    if Path(path).is_dir():
        if frame_rate is None:
            raise VideoError(
                path, "is a folder: `score --as-video` reads a folder of numbered pictures as a video"
            )
        from data.picture_folder import PictureFolder

        return [partial(PictureFolder, path, frame_rate)]
    from data.webp_video import WebPVideo, is_webp

    if decoder == "auto" and is_webp(path):
        return [partial(WebPVideo, path)]
    if decoder == "decord":
        from data.decord_video import DecordVideo

        return [partial(DecordVideo, path)]
    from data.pyav_video import PyAVInOrder, PyAVVideo

    return [partial(PyAVVideo, path), partial(PyAVInOrder, path)]


def _span(
    video: OpenVideo, window_s: tuple[float, float] | None
) -> tuple[int, int, tuple[float, float] | None]:
    """Return the window's first frame, the frame after its last, and the window limited to the video's
    end."""
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
    """Return the start times of the frames and the end time, float64 [n_frames + 1]. Raises Unreadable if
    they do not ascend."""
    times = video.times_s()
    if not (np.isfinite(times).all() and (np.diff(times) >= 0).all() and times[-1] > 0):
        raise Unreadable(f"{video.decoder} finds times in it that do not ascend", "no_times")
    return times


def _of_several_sizes(*sizes: tuple[int, int]) -> Unreadable:
    shown = " and ".join(f"{width}x{height}" for height, width in sorted(sizes, key=lambda s: s[::-1]))
    return Unreadable(f"its frames are of several sizes, {shown}: re-encode it at one size", "several_sizes")


def _answer(job: Any) -> float:
    try:
        path, decoder, frame_rate, fetching = job
        return video_duration_s(path, decoder, frame_rate, Fetching(**fetching))
    except VideoError as error:
        raise ValueError(error.reason) from None


if __name__ == "__main__":
    serve(_answer)
