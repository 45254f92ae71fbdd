"""Decoding in Ray tasks: a file that crashes or hangs the decoder costs one task, not a worker."""

import asyncio
from typing import Any

import numpy as np
import ray

from data.deadline import DeadlineError, within
from data.frames import DecoderName, FrameInfo, VideoError, look_at
from data.records import VideoRef


@ray.remote(num_returns=2, max_retries=0)
def _decode(ref: VideoRef, max_px: int, decoder: DecoderName) -> tuple[FrameInfo, np.ndarray]:
    """What was looked at apart from its pixels: it tells that they are there without moving one."""
    frames, info = look_at(ref.path, ref.n_frames, max_px, decoder, ref.window_s)
    return info, frames


class Decoder:
    """Turns refs into frames in the object store. Only references pass through whoever calls it."""

    def __init__(
        self, max_px: int, timeout_s: float, tasks: int, cpus: float, decoder: DecoderName = "auto"
    ) -> None:
        """`timeout_s` is the deadline of one video, `tasks` how many are decoded at once (so that the
        deadline does not count waiting in line), `cpus` what Ray reserves for each."""
        self._max_px = max_px
        self._decoder: DecoderName = decoder
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(tasks)
        self._task: Any = _decode.options(num_cpus=cpus)

    async def decode(self, ref: VideoRef) -> ray.ObjectRef:
        """A reference to the clean frames of `ref`, uint8 [T, H, W, 3], once they are there.

        Raises VideoError if the file is bad, or the decoder crashed or passed its deadline.
        """
        return (await self.look(ref))[1]

    async def look(self, ref: VideoRef) -> tuple[FrameInfo, ray.ObjectRef]:
        """Like `decode`, with what was looked at."""
        async with self._slots:
            info, frames = self._task.remote(ref, self._max_px, self._decoder)
            try:
                return await within(info, self._timeout_s, f"decoding {ref.path}"), frames
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, VideoError):
                    raise error.cause from None
                raise
            except ray.exceptions.WorkerCrashedError:
                raise VideoError(ref.path, "the decoder crashed") from None
            except DeadlineError:
                ray.cancel(info, force=True)
                raise VideoError(ref.path, f"not decoded within {self._timeout_s:g} s") from None
            except asyncio.CancelledError:
                ray.cancel(info, force=True)
                raise
