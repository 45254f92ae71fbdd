"""Makes the distorted clips of one video. Run as a program, it does one job per line
(runtime/killable.py)."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.distortions import FPS, distort, single_threaded
from data.fetch_settings import Fetching
from data.frames import decode_video, video_duration_s
from data.lossless import write_lossless
from data.seeds import stable_hash
from data.urls import is_url
from data.video_file import VideoError
from runtime.killable import serve

_RECORD = "ladder.json"
_LEAST_DIFFERENCE = 0.25
"""Mean absolute difference of two clips, in grey levels, below which they count as equal."""


@dataclass(frozen=True, slots=True)
class LadderJob:
    """A video, the folder for its clips, and the settings of the clips.

    The middle `seconds` of the video are shrunk to at most `max_px`. Every kind of distortion is applied at
    `rungs` strengths, spread evenly over [0, 1].
    """

    source: str
    out: str
    kinds: list[str]
    rungs: int
    seconds: float
    max_px: int
    seed: int
    fetching: dict[str, Any]


def strength_of(rung: int, rungs: int) -> float:
    """Return the strength of a rung. Rung 0 has the best quality."""
    return rung / (rungs - 1)


def clip_name(kind: str, rung: int) -> str:
    return f"{kind}-{rung}.mp4"


def clips_of(job: LadderJob) -> dict[str, list[int]] | None:
    """Return the rungs of each kind that an earlier call wrote; None if its settings differ or clips are
    missing."""
    out = Path(job.out)
    try:
        record = json.loads((out / _RECORD).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    names = [clip_name(kind, rung) for kind, written in record["rungs"].items() for rung in written]
    same = record["made_of"] == _recipe(job) and all((out / name).is_file() for name in names)
    return record["rungs"] if same else None


def make_clips(job: LadderJob) -> dict[str, list[int]]:
    """Write the clips and a record of them; returns the rungs written for each kind.

    A rung that looks the same as the previous one (such as a frozen still picture) is left out, because the
    two have no order. Raises VideoError.
    """
    frames = _middle(job)
    out = Path(job.out)
    out.mkdir(parents=True, exist_ok=True)
    written: dict[str, list[int]] = {}
    for kind in job.kinds:
        above = None
        for rung in range(job.rungs):
            # Use the same random numbers for all rungs, so that they differ only in strength.
            rng = np.random.default_rng(stable_hash("ladder", job.seed, kind))
            clip = distort(frames, kind, strength_of(rung, job.rungs), rng)
            if above is not None and _difference(above, clip) < _LEAST_DIFFERENCE:
                continue
            unfinished = out / f".{clip_name(kind, rung)}"
            write_lossless(unfinished, clip)
            unfinished.replace(out / clip_name(kind, rung))
            written.setdefault(kind, []).append(rung)
            above = clip
    (out / _RECORD).write_text(json.dumps({"made_of": _recipe(job), "rungs": written}))
    return written


def _recipe(job: LadderJob) -> dict[str, Any]:
    """Return everything that the clips depend on."""
    recipe = asdict(job)
    del recipe["fetching"]
    if is_url(job.source):
        return recipe
    file = Path(job.source).stat()
    return recipe | {"bytes": file.st_size, "modified_ns": file.st_mtime_ns}


def _middle(job: LadderJob) -> np.ndarray:
    """Decode the middle `seconds` of a video, uint8 [T, H, W, 3], at the clips' frame rate. Sides are even,
    as codecs require."""
    fetching = Fetching(**job.fetching)
    duration = video_duration_s(job.source, fetching=fetching)
    length = min(job.seconds, duration)
    start = (duration - length) / 2
    n_frames = max(1, round(length * FPS))
    frames, _ = decode_video(
        job.source, n_frames, job.max_px, window_s=(start, start + length), fetching=fetching
    )
    height, width = (side // 2 * 2 for side in frames.shape[1:3])
    return np.ascontiguousarray(frames[:, :height, :width])


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(np.int16) - other).mean())


def _answer(job: Any) -> dict[str, list[int]]:
    try:
        return make_clips(LadderJob(**job))
    except VideoError as error:
        raise ValueError(error.reason) from None


if __name__ == "__main__":
    single_threaded()
    serve(_answer)
