"""Computes reference log-probs of scored cohorts while other cohorts of the update are still being
sampled."""

import asyncio
import time
from collections.abc import Collection, Sequence
from typing import Any

from cluster.buffer import CohortBuffer
from cluster.config import RunConfig
from cluster.training_batch import ScoredCohort, training_batch
from learner.group import LearnerGroup
from learner.records import ReferenceLogprobs


class EarlyReference:
    """Makes the learner compute reference log-probs, one cohort at a time, while it would otherwise wait.

    Reference log-probs do not depend on the policy version. Between two cohorts the learner is free for other
    calls, for example to send weights to a worker that joins.
    """

    def __init__(self, learner: LearnerGroup, buffer: CohortBuffer[ScoredCohort], config: RunConfig) -> None:
        self._learner, self._buffer, self._config = learner, buffer, config
        self._known: dict[int, list[ReferenceLogprobs]] = {}
        self.metrics: dict[str, float] = {}
        """Seconds spent on reference log-probs during the learner's last wait."""

    async def compute_until(self, ends: Collection[asyncio.Task[Any]]) -> None:
        """Compute one cohort after another until one of `ends` is done. A call in progress is completed
        first.

        If the run's configuration disables early passes, this only waits.
        """
        seconds = 0.0
        while not any(task.done() for task in ends):
            if (found := await self._next_scored(ends)) is None:
                break
            index, cohort = found
            samples = training_batch([cohort], version=0, config=self._config.learner).samples
            started = time.perf_counter()
            self._known[index] = await self._learner.reference(samples) if samples else []
            seconds += time.perf_counter() - started
        self.metrics = {"timing/early_reference_s": seconds} if self._config.early_reference else {}

    def take(self, cohorts: Sequence[ScoredCohort]) -> dict[int, list[ReferenceLogprobs]]:
        """Return the log-probs computed for `cohorts`, by cohort index: one entry per sample that is trained
        on."""
        known = {c.cohort.index: self._known.pop(c.cohort.index, None) for c in cohorts}
        return {index: logprobs for index, logprobs in known.items() if logprobs is not None}

    async def _next_scored(self, ends: Collection[asyncio.Task[Any]]) -> tuple[int, ScoredCohort] | None:
        """Wait for the next cohort to compute. Returns None if one of `ends` is done first."""
        if not self._config.early_reference:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            return None
        scored = asyncio.create_task(self._buffer.next_scored(self._known))
        try:
            await asyncio.wait([*ends, scored], return_when=asyncio.FIRST_COMPLETED)
            return None if any(task.done() for task in ends) else scored.result()
        finally:
            scored.cancel()
            await asyncio.wait([scored])
