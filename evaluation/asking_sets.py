"""Asking a model about every video of the test sets, once: what it said before is not asked again."""

import asyncio
import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from cli.score import ScoreJob
from cli.score_display import ScoreProgress, print_origin
from data.records import VideoRef
from evaluation.comparison import Answer
from evaluation.inputs import FoundVideos
from evaluation.models import Checkpoint
from evaluation.score_file import ScoreFile
from evaluation.score_rows import key_of_ref, row_of
from evaluation.settings import ScoringSettings
from evaluation.test_sets import LabelledSet


class Questions:
    """All test sets put to one checkpoint, each with a file FOLDER/CHECKPOINT/SET.jsonl of its answers."""

    def __init__(
        self, checkpoint: Checkpoint, settings: ScoringSettings, sets: Sequence[LabelledSet], folder: Path
    ) -> None:
        self._checkpoint, self._settings, self._sets = checkpoint, settings, sets
        self._folder = folder / re.sub(r"[^\w.-]+", "-", checkpoint.name).strip("-.")
        videos = [(video.video_id, video.path) for of in sets for video in of.videos]
        self._job = ScoreJob(FoundVideos(videos), checkpoint, settings, samples=0)

    @property
    def settings(self) -> dict[str, Any]:
        """What the answers depend on."""
        return self._job.output_settings()

    def ask(self, console: Console) -> dict[str, dict[str, Answer]]:
        """Put every question without an answer on file; returns the answers by set name and video_id.

        Raises OutputError if a file holds answers given under other settings, ConfigError or ScoringFailed.
        """
        print_origin(console, self._checkpoint, self._settings, self._job.found)
        with contextlib.ExitStack() as stack:
            files = {
                of.name: stack.enter_context(ScoreFile(self._folder / f"{of.name}.jsonl", self.settings))
                for of in self._sets
            }
            todo = {
                of.name: [ref for ref in self._refs(of) if key_of_ref(ref) not in files[of.name].done]
                for of in self._sets
            }
            total, left = len(self._job.found.videos), sum(map(len, todo.values()))
            if left < total:
                console.print(f"{total - left} of them have an answer in {self._folder}", highlight=False)
            if left:
                progress = stack.enter_context(ScoreProgress(console, total, total - left))
                asyncio.run(self._ask(todo, files, progress))
            return {name: _answers(file) for name, file in files.items()}

    def _refs(self, of: LabelledSet) -> list[VideoRef]:
        return [VideoRef(v.video_id, v.path, self._settings.frames_per_video) for v in of.videos]

    async def _ask(
        self, todo: dict[str, list[VideoRef]], files: dict[str, ScoreFile], progress: ScoreProgress
    ) -> None:
        from evaluation.scorer import Scorer

        async with Scorer(self._settings) as scorer:
            for name, refs in todo.items():
                async with contextlib.aclosing(scorer.score(refs)) as done:
                    async for scored in done:
                        files[name].append(row_of(scored, self._checkpoint.name))
                        progress.advance(failed=bool(scored.failure))


def _answers(file: ScoreFile) -> dict[str, Answer]:
    return {row["video_id"]: Answer(row["score"], row["failure"]) for row in file.rows()}
