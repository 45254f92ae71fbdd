"""Evaluations of a run: all videos before and after training, and a fixed subset in between."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from cluster.config import RunConfig
from cluster.journal import Journal
from cluster.preflight import Job
from cluster.run_actors import RunActors
from data.model_view import view_of_run
from data.records import Video
from evaluation.held_out import Prediction, agreement, predict
from evaluation.kept_frames import KeptFrames
from evaluation.subset import spread_subset
from monitoring.run_dir import RunDirectory
from monitoring.trace import Trace


class Evaluator:
    """Evaluates one policy version at a time and records the result, unless it is recorded already.

        await evaluator.whole(0)        # all splits, all videos
        await evaluator.begin(version)  # the subset, if due; in the background if so configured
        await evaluator.finish()        # call before the engines get new weights

    `raise_failure` or `finish` raises the error of an evaluation in the background. A split is recorded
    completely or not at all. After a stop or a failure of the learner, `begin` evaluates the missing splits.
    """

    def __init__(
        self, job: Job, run: RunDirectory, journal: Journal, actors: RunActors, trace: Trace
    ) -> None:
        self._config: RunConfig = job.config
        self._splits = job.evaluation
        self._total_updates = job.sizes.updates
        self._run, self._journal, self._actors, self._trace = run, journal, actors, trace
        self._subsets: dict[str, list[Video]] = {}
        if job.config.evaluation.every_updates and job.evaluation:
            self._subsets = {name: self._subset(name) for name in job.config.evaluation.while_training}
        wanted = {video.video_id for videos in self._subsets.values() for video in videos}
        self._frames = KeptFrames(actors.decoder, wanted, job.config.kept_frames_bytes)
        self._running: asyncio.Task[None] | None = None

    async def whole(self, version: int) -> None:
        """Evaluate all splits with sampled answers, and return once the result is recorded."""
        missing = set(self._splits) - self._run.evaluated(version, whole=True)
        await self._evaluate(
            version,
            {split: videos for split, videos in self._splits.items() if split in missing},
            self._config.evaluation.samples,
        )

    async def begin(self, version: int) -> None:
        """Evaluate the subset, if it is due at `version`. With `beside_training` this only starts it."""
        every = self._config.evaluation.every_updates
        if not every or version % every or not 0 < version < self._total_updates:
            return
        known = self._run.evaluated(version)
        due = {split: videos for split, videos in self._subsets.items() if split not in known}
        self._running = asyncio.create_task(self._evaluate_subset(version, due))
        if not self._config.evaluation.beside_training:
            await self.finish()

    def raise_failure(self) -> None:
        """Raise the error of a failed evaluation. An evaluation in progress continues."""
        if self._running is not None and self._running.done():
            self._running.result()

    async def finish(self) -> None:
        """Wait until an evaluation in progress has ended."""
        if self._running is not None:
            await self._running
            self._running = None

    async def cancel(self) -> None:
        """Cancel an evaluation in progress. Its current split is not recorded."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
            self._running = None

    async def _evaluate_subset(self, version: int, splits: Mapping[str, list[Video]]) -> None:
        """Evaluate the subset, keeping new workers out: the learner may be ahead of the engines, and a new
        worker would get the learner's newer weights."""
        if not splits:
            return
        before = self._journal.current_stage
        self._actors.may_join.clear()
        try:
            await self._evaluate(version, splits, samples=0)
        finally:
            self._actors.may_join.set()
            if self._journal.current_stage == _stage(splits):
                self._journal.stage(before)

    async def _evaluate(self, version: int, splits: Mapping[str, list[Video]], samples: int) -> None:
        if splits:
            self._journal.stage(_stage(splits))
        for split, videos in splits.items():
            with self._trace.span("evaluation", f"{split}, version {version}"):
                found = await predict(
                    videos,
                    self._actors.fleet,
                    self._frames,
                    view_of_run(self._config.model_dump()),
                    samples,
                    self._config.seed,
                    version,
                )
            # Compute thousands of bootstrap resamples in a thread, so that the event loop is not blocked.
            scores = await asyncio.to_thread(self._scores, split, found)
            self._journal.evaluation(version, split, scores, found)

    def _scores(self, split: str, predictions: list[Prediction]) -> dict[str, Any]:
        """Return the agreement with MOS, and also the agreement on the subset if training evaluates a
        subset."""
        samples, seed = self._config.evaluation.bootstrap_samples, self._config.seed
        scores = agreement(predictions, samples, seed)
        scores["of_videos"] = sum(video.headline for video in self._splits[split])
        subset = {video.video_id for video in self._subsets.get(split, ())}
        if 0 < len(subset) < len(self._splits[split]):
            some = [p for p in predictions if p.video_id in subset]
            alone = scores if len(some) == len(predictions) else agreement(some, samples, seed)
            scores["subset_srcc"] = alone["srcc"]
        return scores

    def _subset(self, split: str) -> list[Video]:
        videos, evaluation = self._splits[split], self._config.evaluation

        def choose() -> list[str] | None:
            chosen = spread_subset(videos, evaluation.videos, self._config.seed)
            return None if len(chosen) == len(videos) else [video.video_id for video in chosen]

        ids = self._run.evaluated_videos(split, choose)
        return videos if ids is None else [video for video in videos if video.video_id in set(ids)]


def _stage(splits: Iterable[str]) -> str:
    return f"evaluating {', '.join(splits)}"
