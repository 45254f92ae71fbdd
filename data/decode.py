"""Decoding in Ray tasks: a file that crashes or hangs the decoder costs one task, not a worker."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import ray

from data.frames import FrameInfo, look_at, look_at_pair
from data.records import VideoRef
from data.video_file import DecoderName, VideoError
from runtime.calls import DeadlineError, within

_CRASHES: dict[type[Exception], str] = {
    ray.exceptions.WorkerCrashedError: "the decoder crashed",
    ray.exceptions.OutOfMemoryError: "the decoder was ended for want of memory on its machine",
    ray.exceptions.NodeDiedError: "the machine that decoded it died",
    ray.exceptions.LocalRayletDiedError: "Ray died on the machine that decoded it",
    ray.exceptions.ObjectLostError: "its frames were lost with the machine that decoded it",
}
"""What may happen to a decode task through no fault of the run: it costs a video."""


@dataclass(frozen=True, slots=True)
class Looks:
    """What was looked at in several files, or why a file could not be read, and the seconds that it took."""

    infos: list[FrameInfo | VideoError]
    seconds: float


@dataclass(frozen=True, slots=True)
class Reading:
    """How files are read: see `look_at`."""

    max_px: int
    decoder: DecoderName = "auto"
    strict: bool = True
    square: bool = True


def look(ref: VideoRef, reading: Reading) -> tuple[FrameInfo, np.ndarray] | tuple[VideoError, None]:
    """What was looked at apart from its pixels: it tells that they are there without moving one.

    A bad file is an answer, too: Ray would log an error as unhandled for the pixels that nobody asks for.
    """
    try:
        if ref.beside is not None:
            frames, info = look_at_pair(
                ref.path, ref.beside, ref.n_frames, window_s=ref.window_s, **asdict(reading)
            )
        else:
            frames, info = look_at(
                ref.path,
                ref.n_frames,
                window_s=ref.window_s,
                frame_rate=ref.frame_rate,
                **asdict(reading),
            )
    except VideoError as error:
        return error, None
    except Exception as error:
        # A file that a decoder fails at in a way of its own is a bad file, and must not end the run.
        return VideoError(ref.path, f"{type(error).__name__}: {error}"), None
    return info, frames


_decode_one: Any = ray.remote(num_returns=2, max_retries=0)(look)


@ray.remote(num_returns=2, max_retries=0)
def _decode_all(refs: Sequence[VideoRef], reading: Reading) -> tuple[Looks, list[np.ndarray | None]]:
    started = time.perf_counter()
    infos, frames = zip(*(look(ref, reading) for ref in refs), strict=True)
    return Looks(list(infos), time.perf_counter() - started), list(frames)


class Decoder:
    """Turns refs into frames in the object store. Only references pass through whoever calls it."""

    def __init__(self, reading: Reading, timeout_s: float, tasks: int, cpus: float) -> None:
        """`timeout_s` is the deadline of one video, `tasks` how many are decoded at once (so that the
        deadline does not count waiting in line), `cpus` what Ray reserves for each."""
        self._reading = reading
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(tasks)
        self._one = _decode_one.options(num_cpus=cpus)
        self._all: Any = _decode_all.options(num_cpus=cpus)

    async def look(self, ref: VideoRef) -> tuple[FrameInfo, ray.ObjectRef]:
        """What was looked at, and a reference to the clean frames of `ref`, uint8 [T, H, W, 3], once they are
        there.

        Raises VideoError if the file is bad, or the decoder crashed, passed its deadline or died with its
        machine.
        """
        found, frames = await self._run(self._one, ref, ref.path)
        if isinstance(found, VideoError):
            raise found
        return found, frames

    async def look_all(self, refs: Sequence[VideoRef]) -> tuple[Looks, ray.ObjectRef]:
        """Several videos in one task, which costs less than a task each where they are short.

        Returns what was looked at, and a reference to a list of their frames, None for a bad file. Raises
        VideoError if the decoder crashed or passed the deadline of one video, without telling at which:
        look at each by itself then.
        """
        return await self._run(self._all, refs, refs[0].path)

    async def _run(self, task: Any, argument: Any, path: str) -> tuple[Any, ray.ObjectRef]:
        """The first result of a task, once it is there, and a reference to the second."""
        async with self._slots:
            found, frames = task.remote(argument, self._reading)
            try:
                return await within(found, self._timeout_s, f"decoding {path}"), frames
            except tuple(_CRASHES) as error:
                reason = next(text for kind, text in _CRASHES.items() if isinstance(error, kind))
                raise VideoError(path, reason, "not_decoded") from None
            except DeadlineError:
                ray.cancel(found, force=True)
                raise VideoError(path, f"not decoded within {self._timeout_s:g} s", "not_decoded") from None
            except asyncio.CancelledError:
                ray.cancel(found, force=True)
                raise
