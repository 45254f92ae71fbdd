"""Ask a model one question about a video and print the answer (`launch.py ask`)."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.markup import escape

from cli.terminal import console, facts_table
from data.frames import FrameInfo
from data.records import VideoRef
from data.video_file import VideoError
from evaluation.models import Checkpoint, resolve_checkpoint, scoring_settings
from evaluation.quiz.asking import Asked, ask, reference
from evaluation.quiz.item import open_prompt
from evaluation.score_job import part_s
from evaluation.settings import ScoringSettings
from rollout.errors import RolloutFailed
from runtime.errors import CommandFailed, ConfigError


def ask_once(
    videos: Sequence[Path],
    question: str,
    checkpoint: str | None,
    temperature: float,
    as_json: bool,
    window_s: tuple[float, float] | None = None,
    frame_rate: float | None = None,
    **overrides: Any,
) -> None:
    """Ask one question and print the answer.

    Args:
        window_s: the (start, end) of each video to show to the model; the end may be infinite.
        frame_rate: if given, a folder of numbered pictures is a video with this many pictures per second.
    Raises:
        ConfigError: for a file that does not exist or is shorter than the window, or a checkpoint or setting
            that cannot be used.
        CommandFailed: if no engine starts, or there is no answer.
    """
    for path in videos:
        if path.is_dir() and frame_rate is None:
            raise ConfigError(f"{path} is a folder; with --as-video, its numbered pictures are one video")
        if not path.exists():
            raise ConfigError(f"{path}: no such file")
    if not question.strip():
        raise ConfigError("the question is empty: ask something")
    model = resolve_checkpoint(checkpoint)
    settings = scoring_settings(model, **overrides)
    paths = tuple(str(path.absolute()) for path in videos)
    ref = replace(
        reference(question, paths, settings.frames_per_video), window_s=window_s, frame_rate=frame_rate
    )
    if window_s is not None:
        for file in paths:
            part_s(replace(ref, path=file), settings)
    try:
        asked = asyncio.run(_ask(settings, ref, question, temperature))
    except (VideoError, RolloutFailed) as error:
        raise CommandFailed(str(error)) from None
    if as_json:
        record = {
            "videos": [str(path) for path in videos],
            "question": question,
            **asdict(asked),
            "checkpoint": model.name,
            "temperature": temperature,
        }
        print(json.dumps(record, allow_nan=False))
    else:
        _print(asked, videos, model)


async def _ask(settings: ScoringSettings, ref: VideoRef, question: str, temperature: float) -> Asked:
    from evaluation.scorer import Scorer

    async with Scorer(settings) as scorer:
        return await ask(scorer, ref, open_prompt(question), temperature)


def _print(asked: Asked, videos: Sequence[Path], model: Checkpoint) -> None:
    table = facts_table()
    cut = " [yellow](cut at --max-tokens)[/]" if asked.finish_reason == "length" else ""
    table.add_row("answer", escape(asked.answer) + cut)
    if asked.trace:
        table.add_row("trace", escape(asked.trace))
    for path, frames in zip(videos, (asked.frames, asked.frames.beside), strict=False):
        if frames is not None:
            table.add_row("frames", f"{_indices(frames)} of {escape(str(path))}")
    table.add_row("decoder", asked.frames.decoder)
    table.add_row("model", escape(model.name))
    console.print(table, highlight=False)


def _indices(frames: FrameInfo) -> str:
    shown = ", ".join(map(str, frames.indices))
    window = "" if frames.window_s is None else f", {frames.window_s[0]:g} s to {frames.window_s[1]:g} s"
    return f"{shown} of {frames.n_total} (counted from 0){window}, {frames.px[1]}x{frames.px[0]} px,"
