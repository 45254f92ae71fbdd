"""`launch.py ask`: one question, one answer."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data.frames import FrameInfo, clip_window, duration_s
from data.video_file import VideoError
from evaluation.models import Checkpoint, resolve_checkpoint, scoring_settings
from evaluation.quiz.asking import Asked, ask, reference
from evaluation.quiz.item import open_prompt
from evaluation.settings import ScoringSettings
from runtime.errors import ConfigError


def ask_once(
    console: Console,
    videos: Sequence[Path],
    question: str,
    checkpoint: str | None,
    temperature: float,
    as_json: bool,
    window_s: tuple[float, float] | None = None,
    **overrides: Any,
) -> None:
    """Print what the model says.

    Args:
        window_s: look at this part of each video; the end may be infinite.
    Raises:
        ConfigError: for a file that is not there or has no such part, or a checkpoint or a setting that
            cannot be used.
        ScoringFailed: if no engine can be started.
        VideoError, RolloutFailed: if there is no answer.
    """
    for path in videos:
        if not path.is_file():
            raise ConfigError(f"{path}: no such file")
    if not question.strip():
        raise ConfigError("the question is empty: ask something")
    model = resolve_checkpoint(checkpoint)
    settings = scoring_settings(model, **overrides)
    if window_s is not None:
        _check_window(videos, window_s, settings)
    asked = asyncio.run(_ask(settings, videos, question, temperature, window_s))
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
        _print(console, asked, videos, model)


def _check_window(videos: Sequence[Path], window_s: tuple[float, float], settings: ScoringSettings) -> None:
    for path in videos:
        try:
            clip_window(window_s, duration_s(str(path), settings.decoder, settings.decode_timeout_s))
        except VideoError as error:
            raise ConfigError(str(error)) from None
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from None


async def _ask(
    settings: ScoringSettings,
    videos: Sequence[Path],
    question: str,
    temperature: float,
    window_s: tuple[float, float] | None,
) -> Asked:
    from evaluation.scorer import Scorer

    paths = tuple(str(path.absolute()) for path in videos)
    ref = replace(reference(question, paths, settings.frames_per_video), window_s=window_s)
    async with Scorer(settings) as scorer:
        return await ask(scorer, ref, open_prompt(question), temperature)


def _print(console: Console, asked: Asked, videos: Sequence[Path], model: Checkpoint) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    cut = " [yellow](cut at --max-tokens)[/]" if asked.finish_reason == "length" else ""
    table.add_row("answer", escape(asked.answer) + cut)
    if asked.trace:
        table.add_row("trace", escape(asked.trace))
    looks: list[FrameInfo | None] = [asked.frames, asked.frames.beside]
    for path, frames in zip(videos, looks, strict=False):
        if frames is not None:
            table.add_row("frames", f"{_indices(frames)} of {escape(str(path))}")
    table.add_row("decoder", asked.frames.decoder)
    table.add_row("model", escape(model.name))
    console.print(table, highlight=False)


def _indices(frames: FrameInfo) -> str:
    shown = ", ".join(map(str, frames.indices))
    window = "" if frames.window_s is None else f", {frames.window_s[0]:g} s to {frames.window_s[1]:g} s"
    return f"{shown} of {frames.n_total} (counted from 0){window}, {frames.px[1]}x{frames.px[0]} px,"
