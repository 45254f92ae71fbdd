"""`launch.py compare`: score versions of a content, or folders of them, and report which are better."""

import asyncio
import contextlib
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from cli.compare_display import comparison_json, print_comparison
from cli.score import score_all
from cli.score_display import ScoreProgress, print_origin
from data.video_file import VideoError
from evaluation.score_file import ScoreFile
from evaluation.score_job import ScoreJob
from evaluation.score_rows import Key, key_of, key_of_ref
from evaluation.version_picture import Panel, draw_differences, draw_versions
from evaluation.versions import Comparison, NamedVideo, Rated, Versions, compare_versions, rated_of_row
from monitoring.frame_sheets import FrameReader, FrameRequest, Sheet
from runtime.errors import ConfigError

Looks = Mapping[NamedVideo, Sheet | VideoError]


def compare(
    versions: Versions,
    job: ScoreJob,
    out: Path | None,
    picture: Path | None,
    as_json: bool,
    console: Console,
    notes: Console,
) -> bool:
    """Score all versions and print the comparison to `console`, everything else to `notes`.

    Single videos are decoded before an engine starts.

    Returns whether every version could be compared.
    Raises:
        ConfigError: if fewer than two of the videos can be read, or a file cannot be written.
        ScoringFailed: if no engine starts.
    """
    if picture is not None:
        _check_picture(picture)
    looks: Looks = {} if versions.of_folders else _look(job)
    unreadable = {video: str(look) for video, look in looks.items() if isinstance(look, VideoError)}
    if looks and len(looks) - len(unreadable) < 2:
        raise ConfigError("\n".join([*unreadable.values(), "a comparison needs two videos that can be read"]))
    readable = [video for video in job.found.videos if video not in unreadable]
    job = replace(job, found=replace(job.found, videos=readable))
    print_origin(notes, job.checkpoint, job.settings, job.found)
    known = _rate(job, out, notes)

    def rated(video: NamedVideo | None) -> Rated | None:
        if video is None:
            return None
        return Rated(*video, failure=unreadable[video]) if video in unreadable else known[video]

    comparison = compare_versions(
        versions, {name: [rated(video) for video in videos] for name, videos in versions.contents.items()}
    )
    if as_json:
        print(json.dumps(comparison_json(comparison, job), allow_nan=False))
    else:
        print_comparison(console, comparison)
    if picture is not None and comparison.pairs:
        _draw(comparison, looks, job, picture)
        notes.print(f"Picture: {picture}", highlight=False, soft_wrap=True)
    if out is not None:
        notes.print(f"Scores: {out}", highlight=False, soft_wrap=True)
    return not comparison.failures


def _look(job: ScoreJob) -> dict[NamedVideo, Sheet | VideoError]:
    """Decode the frames that the model will be shown of each video, in a process of their own."""
    settings = job.settings
    looks: dict[NamedVideo, Sheet | VideoError] = {}
    with contextlib.closing(FrameReader(settings.decode_timeout_s)) as reader:
        for video in job.found.videos:
            request = FrameRequest(
                path=video[1],
                n_frames=settings.frames_per_video,
                max_px=settings.max_frame_px,
                decoder=settings.decoder,
                square=settings.square_pixels,
                window_s=job.window_s,
                strict=settings.strict,
                frame_rate=job.found.frame_rate,
            )
            try:
                looks[video] = reader.sheet(request)
            except VideoError as error:
                looks[video] = error
    return looks


def _rate(job: ScoreJob, out: Path | None, notes: Console) -> dict[NamedVideo, Rated]:
    """Score the videos that have no row in `out` yet; returns what all of them got."""
    refs = {key_of_ref(ref): ref for ref in job.refs()}
    rated: dict[Key, Rated] = {}

    def keep(_: Any, row: Mapping[str, Any]) -> None:
        rated[key_of(row)] = rated_of_row(row)

    with contextlib.ExitStack() as stack:
        file = None
        if out is not None:
            file = stack.enter_context(ScoreFile(out, job.output_settings()))
            for row in file.rows():
                if key_of(row) in refs:
                    keep(None, row)
        todo = [ref for key, ref in refs.items() if key not in rated]
        if len(todo) < len(refs):
            notes.print(f"{len(refs) - len(todo)} of them are already in {out}", highlight=False)
        if todo:
            progress = stack.enter_context(ScoreProgress(notes, len(refs), len(refs) - len(todo)))
            asyncio.run(score_all(job, todo, file, progress, keep))
    return {(ref.video_id, ref.path): rated[key] for key, ref in refs.items()}


def _check_picture(picture: Path) -> None:
    if picture.suffix != ".png":
        raise ConfigError(f"--picture {picture}: give a name that ends in .png")
    try:
        picture.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--picture {picture}: {error.strerror}; give another folder") from None


def _draw(comparison: Comparison, looks: Looks, job: ScoreJob, picture: Path) -> None:
    if comparison.versions.of_folders:
        draw_differences(comparison, job.checkpoint.name, picture)
        return
    import numpy as np
    from PIL import Image

    panels = []
    for name, video, rated in zip(
        comparison.versions.names, comparison.versions.videos(), comparison.rated[""], strict=True
    ):
        look = looks[video]
        if isinstance(look, Sheet) and rated is not None and not rated.failure:
            panels.append(Panel(name, np.asarray(Image.open(io.BytesIO(look.png))), rated))
    draw_versions(panels, job.checkpoint.name, picture)
