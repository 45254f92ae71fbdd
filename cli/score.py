"""Score videos; print the scores or append them to a file (`launch.py score`)."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

from cli.score_display import (
    LISTED_FAILURES,
    ScoreProgress,
    print_line,
    print_marks,
    print_origin,
    print_scored,
    print_timeline,
)
from cli.terminal import print_reasons
from data.records import VideoRef
from evaluation.score_file import ScoreFile
from evaluation.score_job import ScoreJob
from evaluation.score_rows import key_of_ref, row_of
from evaluation.timeline import plot_path, plot_timeline


def score(job: ScoreJob, out: Path | None, as_json: bool, console: Console, notes: Console) -> bool:
    """Score the videos of a job. Scores go to `console` or to the file `out`, all other output to `notes`.

    Returns whether no video of the job has failed. Raises OutputError, ConfigError or ScoringFailed.
    """
    print_origin(notes, job.checkpoint, job.settings, job.found)
    refs = job.refs()
    failures: list[tuple[str, str]] = []
    marked: list[dict[str, Any]] = []
    timeline: list[dict[str, Any]] = []

    def show(scored: Any, row: dict[str, Any]) -> None:
        if as_json:
            print(json.dumps(row, allow_nan=False), flush=True)
        elif out is None and job.timeline_s is None:
            (print_scored if len(refs) == 1 else print_line)(console, scored, row)
        if row["failure"]:
            failures.append((row["video_id"], row["failure"]))
        marked.append({name: row[name] for name in ("truncated", "damaged_frames")})
        if job.timeline_s is not None:
            timeline.append(row)

    with contextlib.ExitStack() as stack:
        file = None
        if out is not None:
            file = stack.enter_context(ScoreFile(out, job.output_settings()))
            failures += [(r["video_id"], r["failure"]) for r in file.rows() if r["failure"]]
            timeline += file.rows() if job.timeline_s is not None else ()
        todo = [ref for ref in refs if file is None or key_of_ref(ref) not in file.done]
        if len(todo) < len(refs):
            notes.print(f"{len(refs) - len(todo)} of them are already in {out}", highlight=False)
        if todo:
            progress = stack.enter_context(ScoreProgress(notes, len(refs), len(refs) - len(todo)))
            asyncio.run(score_all(job, todo, file, progress, show))
    if len(refs) > 1 or out is not None:
        print_reasons(notes, "failed", failures, LISTED_FAILURES, style="yellow")
        print_marks(notes, marked)
    if job.timeline_s is not None:
        picture = plot_path(out, refs[0].path)
        timeline.sort(key=lambda row: float(row["start_s"]))
        if not as_json:
            print_timeline(console, timeline)
        plot_timeline(timeline, f"{Path(refs[0].path).name}: {job.checkpoint.name}", picture)
        notes.print(f"Plot: {picture}", highlight=False, soft_wrap=True)
    if out is not None:
        notes.print(f"Scores: {out}", highlight=False, soft_wrap=True)
    return not failures


async def score_all(
    job: ScoreJob,
    refs: Iterable[VideoRef],
    file: ScoreFile | None,
    progress: ScoreProgress,
    show: Callable[[Any, dict[str, Any]], None],
) -> None:
    """Score `refs`; append each row to `file` and pass it to `show`."""
    from evaluation.scorer import Scorer

    async with Scorer(job.settings) as scorer, contextlib.aclosing(scorer.score(refs, job.samples)) as done:
        async for scored in done:
            row = row_of(scored, job.checkpoint.name)
            if file is not None:
                file.append(row)
            show(scored, row)
            progress.advance(failed=bool(scored.failure))
