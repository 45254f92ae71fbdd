"""Writes checkpoints while updates continue: takes a snapshot, then writes it in the background."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from cluster.config import RunConfig
from learner.group import LearnerGroup
from monitoring.run_dir import RunDirectory


class CheckpointWriter:
    """Writes one checkpoint at a time, and deletes older ones when a new one is complete.

    The next call of `raise_failure`, `finish` or `save` raises the error of a failed write.
    """

    def __init__(self, run: RunDirectory, config: RunConfig) -> None:
        self._run = run
        self._keep_last = config.checkpoint.keep_last
        self._background = config.checkpoint_in_background
        self._writing: asyncio.Task[None] | None = None
        self.metrics: dict[str, float] = {}
        """Seconds of the last checkpoint during which updates waited, and during which its files were
        written."""

    async def save(
        self, learner: LearnerGroup, state: dict[str, Any], best_version: Callable[[], int | None]
    ) -> None:
        """Save the learner's state, and return when the next update may begin."""
        await self.finish()
        started = time.perf_counter()
        if self._background:
            version = await learner.snapshot()
            state |= {"version": version}
            self._writing = asyncio.create_task(self._write(learner, version, state, best_version))
        else:
            await learner.save(self._run.checkpoint(learner.version), state)
            self._run.prune_checkpoints(self._keep_last, best_version())
        self.metrics["checkpoint/pause_s"] = time.perf_counter() - started

    async def _write(
        self,
        learner: LearnerGroup,
        version: int,
        state: dict[str, Any],
        best_version: Callable[[], int | None],
    ) -> None:
        started = time.perf_counter()
        await learner.write_snapshot(self._run.checkpoint(version), state)
        self._run.prune_checkpoints(self._keep_last, best_version())
        self.metrics["checkpoint/write_s"] = time.perf_counter() - started

    def raise_failure(self) -> None:
        """Raise the error of a failed write. A write in progress continues."""
        if self._writing is not None and self._writing.done():
            self._writing.result()

    async def finish(self) -> None:
        """Wait until the last checkpoint is complete."""
        if self._writing is not None:
            await self._writing

    async def cancel(self) -> None:
        """Abandon a write in progress, before its ranks are ended. The previous checkpoint is kept."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
            self._writing = None
