"""Decoding in Ray tasks against decord itself, on the same frames of the same file, in turns."""

import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import ray

from data.decode import Decoder, Reading
from data.frames import decode_video, frame_indices
from data.records import VideoRef
from runtime.calls import within

TIMEOUT_S = 120.0
NO_SHRINKING_PX = 100_000


def bare_decord(path: Path, n_frames: int) -> np.ndarray:
    """uint8 [n_frames, H, W, 3]."""
    from decord import VideoReader, cpu

    reader = VideoReader(str(path), ctx=cpu(0), num_threads=1)
    return reader.get_batch(frame_indices(len(reader), n_frames)).asnumpy()


def seconds_here(path: Path, n_frames: int) -> tuple[float, float]:
    """Seconds of decord itself, and of `decode_video`."""
    began_s = time.perf_counter()
    bare = bare_decord(path, n_frames)
    between_s = time.perf_counter()
    ours, _ = decode_video(path, n_frames, None, "decord")
    ended_s = time.perf_counter()
    assert np.array_equal(bare, ours)
    return between_s - began_s, ended_s - between_s


async def compare(name: str, path: Path, n_frames: int, repeats: int) -> dict[str, Any]:
    """Median milliseconds of a video; decord itself runs in a task, too, but by the task's own clock.

    Needs a Ray session, in which a first turn starts processes.
    """
    decoder = Decoder(Reading(NO_SHRINKING_PX, "decord"), TIMEOUT_S, tasks=1, cpus=1)
    here: Any = ray.remote(seconds_here)
    ref = VideoRef("v", str(path), n_frames)
    turns: list[tuple[float, float, float]] = []
    for _ in range(1 + repeats):
        bare_s, look_s = await within(here.remote(path, n_frames), TIMEOUT_S, f"decoding {path}")
        began_s = time.perf_counter()
        await decoder.look(ref)
        turns.append((bare_s, look_s, time.perf_counter() - began_s))
    bare_ms, look_ms, task_ms = (1000 * median(turn[i] for turn in turns[1:]) for i in range(3))
    return {
        "clip": name,
        "frames": n_frames,
        "decord ms": bare_ms,
        "decode_video ms": look_ms,
        "task ms": task_ms,
        "ratio": median(bare / task for bare, _, task in turns[1:]),
        "turns": repeats,
    }
