"""`launch.py ask`: one question, one answer."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data.frames import FrameInfo
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
    **overrides: Any,
) -> None:
    """Print what the model says.

    Raises:
        ConfigError: for a file that is not there, a checkpoint or a setting that cannot be used.
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
    asked = asyncio.run(_ask(settings, videos, question, temperature))
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


async def _ask(settings: ScoringSettings, videos: Sequence[Path], question: str, temperature: float) -> Asked:
    from evaluation.scorer import Scorer

    paths = tuple(str(path.absolute()) for path in videos)
    ref = reference(question, paths, settings.frames_per_video)
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
    return f"{shown} of {frames.n_total} (counted from 0), {frames.px[1]}x{frames.px[0]} px,"
