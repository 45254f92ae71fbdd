"""Makes rank-only manifests from unlabelled videos: each clip at several strengths of a distortion.

A rung with weaker distortion has better quality. The labels contain only this order. Each kind of distortion
of each video is its own label set, `ladder/<video>/<kind>`, because kinds cannot be compared with one
another.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from data.benchmarks.files import VideoFolder
from data.distortions import OOD_KINDS, TRAIN_KINDS
from data.fetch_settings import DEFAULT_FETCHING, Fetching
from data.prepare.labelled import PrepareError
from data.prepare.ladder_clips import LadderJob, clip_name, clips_of, strength_of
from data.tables import write_table
from data.urls import Location
from runtime.killable import run_isolated

KINDS = TRAIN_KINDS + OOD_KINDS
MANIFEST = "manifest.csv"
FAMILY = "ladder"


@dataclass(frozen=True, slots=True)
class Ladders:
    """The result of `make_ladders`: a manifest of `clips` clips in `sets` label sets, and `problems` as
    (video, reason)."""

    manifest: Path
    sets: int
    clips: int
    problems: list[tuple[str, str]]


def make_ladders(
    folder: Location,
    out: Path,
    *,
    fetching: Fetching = DEFAULT_FETCHING,
    kinds: Sequence[str] = TRAIN_KINDS,
    rungs: int = 5,
    seconds: float = 2.0,
    max_px: int = 256,
    split: str = "train",
    seed: int = 0,
    processes: int = 2,
    timeout_s: float = 600.0,
    progress: Callable[[int, int], None] | None = None,
) -> Ladders:
    """Write distortion ladders of all videos below `folder`, which may be a URL, to `out`, with a manifest.

    Existing clips of the same video and settings are kept, so an interrupted call can be repeated. A video is
    left out if it cannot be read, or if all of its rungs look the same.

    Args:
        fetching: settings for fetching videos from a URL.
        kinds: kinds of distortion in data/distortions.py.
        rungs: number of clips per ladder, at least 2, with distortions from hardly visible to severe.
        seconds, max_px: length of a clip, taken from the middle of the video, and its longest side.
        seed: seed of the random parts of the distortions.
        processes, timeout_s: number of videos processed at once, and the deadline for one with its clips.
        progress: called with the number of videos done and the total number.
    Raises:
        PrepareError: if a kind is unknown, there are fewer than 2 rungs, or no ladder is left.
    """
    _check(kinds, rungs, seconds, max_px)
    found = VideoFolder(folder, fetching)
    out = out.resolve()
    sources = [name for name in found.videos() if not Path(found.location(name)).is_relative_to(out)]
    if not sources:
        raise PrepareError(f"{folder}: no file in it has a video's suffix")
    jobs = {
        name: LadderJob(
            found.location(name),
            str(out / name),
            sorted(set(kinds)),
            rungs,
            seconds,
            max_px,
            seed,
            asdict(fetching),
        )
        for name in sources
    }
    made = {name: rungs_made for name, job in jobs.items() if (rungs_made := clips_of(job)) is not None}
    open_jobs = {name: job for name, job in jobs.items() if name not in made}
    outcomes = run_isolated(
        "data.prepare.ladder_clips",
        [asdict(job) for job in open_jobs.values()],
        processes,
        timeout_s + fetching.wait_s([found.location(sources[0])]),
        None if progress is None else lambda done: progress(len(made) + done, len(jobs)),
    )
    by_name = dict(zip(open_jobs, outcomes, strict=True))
    made |= {name: outcome.result for name, outcome in by_name.items() if not outcome.failure}
    problems = [(name, outcome.failure) for name, outcome in by_name.items() if outcome.failure]
    problems += [
        (name, f"shows no difference between any two rungs of {kind}")
        for name in sources
        for kind, written in made.get(name, {}).items()
        if len(written) < 2
    ]
    rows = [row for name in sources if name in made for row in _rows(name, made[name], rungs, split)]
    if not rows:
        first = "\n".join(f"  {name}: {reason}" for name, reason in problems[:5])
        raise PrepareError(f"{folder}: no ladder could be made from its {len(sources)} videos\n{first}")
    write_table(pd.DataFrame(rows), out / MANIFEST)
    return Ladders(out / MANIFEST, len({row["label_set"] for row in rows}), len(rows), problems)


def _check(kinds: Sequence[str], rungs: int, seconds: float, max_px: int) -> None:
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown or not kinds:
        raise PrepareError(
            f"unknown kind of distortion {unknown or '(none given)'}: choose from {', '.join(KINDS)}"
        )
    if rungs < 2:
        raise PrepareError(f"a ladder of {rungs} rung(s) has no order: give --rungs 2 or more")
    if seconds <= 0 or max_px < 64:
        raise PrepareError(
            f"clips of {seconds:g} s and {max_px} px: give --seconds above 0 and --max-px from 64 on"
        )


def _rows(name: str, made: dict[str, list[int]], rungs: int, split: str) -> list[dict[str, Any]]:
    return [
        {
            "path": f"{name}/{clip_name(kind, rung)}",
            "mos": 5 - 4 * strength_of(rung, rungs),
            "split": split,
            "label_set": f"{FAMILY}/{name}/{kind}",
            "source": name,
            "rank_only": True,
            "distortion": kind,
            "strength": strength_of(rung, rungs),
        }
        for kind, written in made.items()
        if len(written) > 1
        for rung in written
    ]
