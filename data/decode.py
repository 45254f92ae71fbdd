"""Decodes in Ray tasks, so that a file that crashes or hangs the decoder ends one task and not a worker."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import ray

from data.fetch_settings import DEFAULT_FETCHING, Fetching
from data.frames import FrameInfo, decode_pair, decode_video
from data.records import VideoRef
from data.video_file import DecoderName, VideoError
from runtime.calls import DeadlineError, within

_CRASHES: dict[type[Exception], str] = {
    ray.exceptions.WorkerCrashedError: "the decoder crashed",
    ray.exceptions.OutOfMemoryError: "the decoder was killed because its machine ran out of memory",
    ray.exceptions.NodeDiedError: "the machine that decoded it died",
    ray.exceptions.LocalRayletDiedError: "Ray died on the machine that decoded it",
    ray.exceptions.ObjectLostError: "its frames were lost with the machine that decoded it",
}
"""Errors of a decode task that fail its video but not the run, with their descriptions."""


@dataclass(frozen=True, slots=True)
class Looks:
    """The result of decoding several files: each file's FrameInfo or error, and the seconds of decoding."""

    infos: list[FrameInfo | VideoError]
    seconds: float


@dataclass(frozen=True, slots=True)
class Reading:
    """Options of `decode_video` that are the same for all files."""

    max_px: int
    decoder: DecoderName = "auto"
    strict: bool = True
    square: bool = True
    fetching: Fetching = DEFAULT_FETCHING

    def options(self) -> dict[str, Any]:
        """Return the options as keyword arguments."""
        return {option.name: getattr(self, option.name) for option in fields(self)}


def decode_ref(ref: VideoRef, reading: Reading) -> tuple[FrameInfo, np.ndarray] | tuple[VideoError, None]:
    """Decode `ref`. The info is a separate result, so the caller can await it without fetching pixels.

    The error of a bad file is returned. If it were raised, Ray would log it as unhandled when the frames are
    never fetched.
    """
    try:
        if ref.beside is not None:
            frames, info = decode_pair(
                ref.path,
                ref.beside,
                ref.n_frames,
                window_s=ref.window_s,
                frame_rate=ref.frame_rate,
                **reading.options(),
            )
        else:
            frames, info = decode_video(
                ref.path,
                ref.n_frames,
                window_s=ref.window_s,
                frame_rate=ref.frame_rate,
                **reading.options(),
            )
    except VideoError as error:
        return error, None
    except Exception as error:
        # Treat any other error of a decoder as a bad file, because it must not end the run.
        return VideoError(ref.path, f"{type(error).__name__}: {error}"), None
    return info, frames


_decode_one: Any = ray.remote(num_returns=2, max_retries=0)(decode_ref)


@ray.remote(num_returns=2, max_retries=0)
def _decode_all(refs: Sequence[VideoRef], reading: Reading) -> tuple[Looks, list[np.ndarray | None]]:
    started = time.perf_counter()
    infos, frames = zip(*(decode_ref(ref, reading) for ref in refs), strict=True)
    return Looks(list(infos), time.perf_counter() - started), list(frames)


class Decoder:
    """Decodes refs into frames in the object store. The caller gets references, never pixels."""

    def __init__(self, reading: Reading, timeout_s: float, tasks: int, cpus: float) -> None:
        """Args:
        timeout_s: deadline of one task, without its time in the queue and the time allowed for fetching URLs.
        tasks: number of tasks that run at once.
        cpus: CPUs that Ray reserves per task.
        """
        self._reading = reading
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(tasks)
        self._one = _decode_one.options(num_cpus=cpus)
        self._all: Any = _decode_all.options(num_cpus=cpus)

    async def look(self, ref: VideoRef) -> tuple[FrameInfo, ray.ObjectRef]:
        """Decode one video; returns its info and a reference to the clean frames, uint8 [T, H, W, 3].

        Raises VideoError if the file is bad, or if the decoder crashed, missed its deadline or died with its
        node.
        """
        found, frames = await self._run(self._one, ref, [ref])
        if isinstance(found, VideoError):
            raise found
        return found, frames

    async def look_all(self, refs: Sequence[VideoRef]) -> tuple[Looks, ray.ObjectRef]:
        """Decode several videos in one task, which has less overhead than one task per video if they are
        short.

        Returns their infos, and a reference to a list of their frames (None for a bad file). Raises
        VideoError if the decoder crashed or missed the deadline. The error does not say which video caused
        it, so retry each video separately.
        """
        return await self._run(self._all, refs, refs)

    async def _run(self, task: Any, argument: Any, refs: Sequence[VideoRef]) -> tuple[Any, ray.ObjectRef]:
        """Run a task on `refs`. Returns its first result, and a reference to its second."""
        path = refs[0].path
        timeout_s = self._timeout_s + self._reading.fetching.wait_s(
            place for ref in refs for place in (ref.path, ref.beside)
        )
        async with self._slots:
            found, frames = task.remote(argument, self._reading)
            try:
                return await within(found, timeout_s, f"decoding {path}"), frames
            except tuple(_CRASHES) as error:
                reason = next(text for kind, text in _CRASHES.items() if isinstance(error, kind))
                raise VideoError(path, reason, "not_decoded") from None
            except DeadlineError:
                ray.cancel(found, force=True)
                raise VideoError(path, f"not decoded within {timeout_s:g} s", "not_decoded") from None
            except asyncio.CancelledError:
                ray.cancel(found, force=True)
                raise
