"""`launch.py score`: which videos, with which model, and where the scores go."""

import asyncio
import contextlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.config import ConfigError
from cluster.scoring.checkpoints import Checkpoint, fingerprint, resolve_checkpoint, scoring_settings
from cluster.scoring.config import ScoringSettings
from cluster.scoring.console import (
    ScoreProgress,
    print_failures,
    print_line,
    print_marks,
    print_origin,
    print_scored,
    print_timeline,
)
from cluster.scoring.inputs import FoundVideos, InputError, find_videos
from cluster.scoring.output import ScoreFile
from cluster.scoring.rows import SCALE, key_of_ref, row_of
from cluster.scoring.timeline import plot_path, plot_timeline, windows
from data.duration import duration_s
from data.frames import VideoError, clip_window
from data.records import VideoRef

# What no score depends on.
_NOT_OF_SCORES = {
    "trust_remote_code", "decode_timeout_s", "decode_tasks", "decode_cpus", "replicas", "cpus_per_replica",
    "kv_cache_mb", "videos_in_flight", "cluster",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ScoreJob:
    """A command whose inputs were found good, before anything starts."""

    found: FoundVideos
    checkpoint: Checkpoint
    settings: ScoringSettings
    samples: int
    out: Path | None = None
    as_json: bool = False
    timeline_s: float | None = None
    window_s: tuple[float, float] | None = None

    def refs(self) -> list[VideoRef]:
        """What to score: each video, or the windows of the one there is.

        Raises ConfigError if there is one and --start, --end or --timeline ask for what it does not show. Of
        many videos, each is looked at when its turn comes.
        """
        refs = list(self.found.refs(self.settings.frames_per_video, self.window_s))
        if len(refs) > 1 or (self.timeline_s is None and self.window_s is None):
            return refs
        ref, settings = refs[0], self.settings
        try:
            length_s = duration_s(ref.path, settings.decoder, settings.decode_timeout_s, ref.frame_rate)
            start_s, end_s = clip_window(self.window_s or (0.0, math.inf), length_s)
            spans = [(start_s, end_s)]
            if self.timeline_s is not None:
                spans = windows(end_s - start_s, self.timeline_s)
                spans = [(start_s + start, start_s + end) for start, end in spans]
        except VideoError as error:
            raise ConfigError(str(error)) from None
        except ValueError as error:
            raise ConfigError(f"{ref.path}: {error}") from None
        return [replace(ref, window_s=window_s) for window_s in spans]

    def output_settings(self) -> dict[str, Any]:
        """What the scores depend on, besides the videos."""
        start_s, end_s = self.window_s or (None, None)
        own = self.settings.model_dump(mode="json", exclude=_NOT_OF_SCORES)
        return own | {
            "model": fingerprint(self.settings.checkpoint), "samples": self.samples, "scale": SCALE,
            "timeline_s": self.timeline_s, "frame_rate": self.found.frame_rate,
            "start_s": start_s, "end_s": None if end_s == math.inf else end_s,
        }  # fmt: skip


def read_score_job(
    arguments: Sequence[str],
    checkpoint: str | None,
    samples: int,
    out: Path | None,
    as_json: bool,
    timeline_s: float | None,
    root: Path | None = None,
    window_s: tuple[float, float] | None = None,
    frame_rate: float | None = None,
    **overrides: Any,
) -> ScoreJob:
    """Find videos and model; `root` and `frame_rate` as in find_videos. Raises InputError or ConfigError."""
    found = find_videos(arguments, root, frame_rate)
    if timeline_s is not None and len(found.videos) > 1:
        raise InputError(f"--timeline looks at one video, and {len(found.videos)} are given; name one")
    if timeline_s is not None and not timeline_s > 0:
        raise InputError(f"--timeline {timeline_s:g}: give the seconds of a window")
    model = resolve_checkpoint(checkpoint)
    settings = scoring_settings(model, **overrides)
    return ScoreJob(found, model, settings, samples, out, as_json, timeline_s, window_s)


def score(job: ScoreJob, console: Console, notes: Console) -> bool:
    """Do the job; scores go to `console` or into the file, all else to `notes`.

    Returns whether every video of the job has been scored. Raises OutputError, ConfigError or ScoringFailed.
    """
    print_origin(notes, job.checkpoint, job.settings, job.found)
    refs = job.refs()
    failures: list[tuple[str, str]] = []
    marked: list[dict[str, Any]] = []
    timeline: list[dict[str, Any]] = []

    def show(scored: Any, row: dict[str, Any]) -> None:
        if job.as_json:
            print(json.dumps(row, allow_nan=False), flush=True)
        elif job.out is None and job.timeline_s is None:
            (print_scored if len(refs) == 1 else print_line)(console, scored, row)
        if row["failure"]:
            failures.append((row["video_id"], row["failure"]))
        marked.append({name: row[name] for name in ("truncated", "damaged_frames")})
        if job.timeline_s is not None:
            timeline.append(row)

    with contextlib.ExitStack() as stack:
        file = None
        if job.out is not None:
            file = stack.enter_context(ScoreFile(job.out, job.output_settings()))
            failures += [(r["video_id"], r["failure"]) for r in file.rows() if r["failure"]]
            timeline += file.rows() if job.timeline_s is not None else ()
        todo = [ref for ref in refs if file is None or key_of_ref(ref) not in file.done]
        if len(todo) < len(refs):
            notes.print(f"{len(refs) - len(todo)} of them are in {job.out} already", highlight=False)
        if todo:
            progress = stack.enter_context(ScoreProgress(notes, len(refs), len(refs) - len(todo)))
            asyncio.run(_score_all(job, todo, file, progress, show))
    if len(refs) > 1 or job.out is not None:
        print_failures(notes, failures)
        print_marks(notes, marked)
    if job.timeline_s is not None:
        picture = plot_path(job.out, refs[0].path)
        timeline.sort(key=lambda row: float(row["start_s"]))
        if not job.as_json:
            print_timeline(console, timeline)
        plot_timeline(timeline, f"{Path(refs[0].path).name}: {job.checkpoint.name}", picture)
        notes.print(f"Plot: {picture}", highlight=False, soft_wrap=True)
    if job.out is not None:
        notes.print(f"Scores: {job.out}", highlight=False, soft_wrap=True)
    return not failures


async def _score_all(
    job: ScoreJob,
    refs: Iterable[VideoRef],
    file: ScoreFile | None,
    progress: ScoreProgress,
    show: Callable[[Any, dict[str, Any]], None],
) -> None:
    from cluster.scoring.scorer import Scorer

    async with Scorer(job.settings) as scorer, contextlib.aclosing(scorer.score(refs, job.samples)) as done:
        async for scored in done:
            row = row_of(scored, job.checkpoint.name)
            if file is not None:
                file.append(row)
            show(scored, row)
            progress.advance(failed=bool(scored.failure))
