"""Asking a model about every video of the test sets, once: what it said before is not asked again."""

import asyncio
import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from data.records import VideoRef
from evaluation.comparison import Answer
from evaluation.inputs import FoundVideos
from evaluation.models import Checkpoint
from evaluation.score_file import ScoreFile
from evaluation.score_job import ScoreJob
from evaluation.score_rows import key_of_ref, row_of
from evaluation.settings import ScoringSettings
from evaluation.test_sets import LabelledSet


class Progress(Protocol):
    def advance(self, failed: bool) -> None:
        """One more video has its answer, or has failed."""
        ...


ProgressDisplay = Callable[[int, int], contextlib.AbstractContextManager[Progress]]
"""Opens a display, from the number of videos and how many of them have an answer on file."""


class Questions:
    """All test sets put to one checkpoint, each with a file FOLDER/CHECKPOINT/SET.jsonl of its answers."""

    def __init__(
        self, checkpoint: Checkpoint, settings: ScoringSettings, sets: Sequence[LabelledSet], folder: Path
    ) -> None:
        self.checkpoint, self.scoring = checkpoint, settings
        self._sets = sets
        self.folder = folder / re.sub(r"[^\w.-]+", "-", checkpoint.name).strip("-.")
        videos = [(video.video_id, video.path) for of in sets for video in of.videos]
        self.found = FoundVideos(videos)
        self._job = ScoreJob(self.found, checkpoint, settings, samples=0)

    @property
    def settings(self) -> dict[str, Any]:
        """What the answers depend on."""
        return self._job.output_settings()

    def ask(self, display: ProgressDisplay) -> dict[str, dict[str, Answer]]:
        """Put every question without an answer on file; returns the answers by set name and video_id.

        Raises OutputError if a file holds answers given under other settings, ConfigError or ScoringFailed.
        """
        with contextlib.ExitStack() as stack:
            files = {
                of.name: stack.enter_context(ScoreFile(self.folder / f"{of.name}.jsonl", self.settings))
                for of in self._sets
            }
            todo = {
                of.name: [ref for ref in self._refs(of) if key_of_ref(ref) not in files[of.name].done]
                for of in self._sets
            }
            total, left = len(self.found.videos), sum(map(len, todo.values()))
            shown = display(total, total - left)
            if left:
                asyncio.run(self._ask(todo, files, stack.enter_context(shown)))
            return {name: _answers(file) for name, file in files.items()}

    def _refs(self, of: LabelledSet) -> list[VideoRef]:
        return [VideoRef(v.video_id, v.path, self.scoring.frames_per_video) for v in of.videos]

    async def _ask(
        self, todo: dict[str, list[VideoRef]], files: dict[str, ScoreFile], progress: Progress
    ) -> None:
        from evaluation.scorer import Scorer

        async with Scorer(self.scoring) as scorer:
            for name, refs in todo.items():
                async with contextlib.aclosing(scorer.score(refs)) as done:
                    async for scored in done:
                        files[name].append(row_of(scored, self.checkpoint.name))
                        progress.advance(failed=bool(scored.failure))


def _answers(file: ScoreFile) -> dict[str, Answer]:
    return {row["video_id"]: Answer(row["score"], row["failure"]) for row in file.rows()}
