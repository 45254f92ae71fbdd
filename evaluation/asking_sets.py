"""Score every video of the test sets with a checkpoint, each video once (`launch.py evaluate`)."""

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
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

Answers = dict[str, dict[str, Answer]]
"""A model's answers, by set name and video_id."""


class Progress(Protocol):
    def advance(self, failed: bool) -> None:
        """Count one more video that was answered or has failed."""
        ...


ProgressDisplay = Callable[[int, int], contextlib.AbstractContextManager[Progress]]
"""Opens a progress display. Takes the number of videos, and how many of them already have an answer."""


class SetsJob:
    """A checkpoint and the test sets that it scores. Answers are appended to FOLDER/CHECKPOINT/SET.jsonl."""

    def __init__(
        self, checkpoint: Checkpoint, scoring: ScoringSettings, sets: Sequence[LabelledSet], folder: Path
    ) -> None:
        self.checkpoint, self.scoring = checkpoint, scoring
        self.folder = folder / re.sub(r"[^\w.-]+", "-", checkpoint.name).strip("-.")
        self.found = FoundVideos([(video.video_id, video.path) for of in sets for video in of.videos])
        self.settings: dict[str, Any] = ScoreJob(self.found, checkpoint, scoring, samples=0).output_settings()
        """The settings that affect the answers."""
        self._refs = {
            of.name: [VideoRef(v.video_id, v.path, scoring.frames_per_video) for v in of.videos]
            for of in sets
        }

    def ask(self, display: ProgressDisplay) -> Answers:
        """Score the videos that have no answer in the files yet; returns the answers of all videos.

        Raises:
            OutputError: if a file holds answers made with other settings.
            ConfigError: if no cluster answers.
            ScoringFailed: if no engine starts or none is left.
        """
        with contextlib.ExitStack() as stack:
            files = {
                name: stack.enter_context(ScoreFile(self.folder / f"{name}.jsonl", self.settings))
                for name in self._refs
            }
            todo = {
                name: [ref for ref in refs if key_of_ref(ref) not in files[name].done]
                for name, refs in self._refs.items()
            }
            total, left = len(self.found.videos), sum(map(len, todo.values()))
            shown = display(total, total - left)
            if left:
                asyncio.run(self._ask(todo, files, stack.enter_context(shown)))
            return {
                name: {row["video_id"]: Answer(row["score"], row["failure"]) for row in file.rows()}
                for name, file in files.items()
            }

    async def _ask(
        self, todo: Mapping[str, Iterable[VideoRef]], files: Mapping[str, ScoreFile], progress: Progress
    ) -> None:
        from evaluation.scorer import Scorer

        async with Scorer(self.scoring) as scorer:
            for name, refs in todo.items():
                async with contextlib.aclosing(scorer.score(refs)) as done:
                    async for scored in done:
                        files[name].append(row_of(scored, self.checkpoint.name))
                        progress.advance(failed=bool(scored.failure))
