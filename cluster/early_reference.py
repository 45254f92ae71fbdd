"""Reference log-probs of cohorts that are scored, while others of the update are still being sampled."""

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
    """Has the learner compute reference log-probs, a cohort at a time, for as long as it has to wait.

    They are the same under every version. Between two cohorts the learner is free for other calls: a worker
    that joins gets its weights then.
    """

    def __init__(self, learner: LearnerGroup, buffer: CohortBuffer[ScoredCohort], config: RunConfig) -> None:
        self._learner, self._buffer, self._config = learner, buffer, config
        self._known: dict[int, list[ReferenceLogprobs]] = {}
        self.metrics: dict[str, float] = {}
        """Seconds that went into it while the learner waited last."""

    async def compute_until(self, ends: Collection[asyncio.Task[Any]]) -> None:
        """Compute until one of `ends` is done, a cohort after the other. A call in progress then ends first.

        Does nothing but wait where the run's configuration rules early passes out.
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
        """Those of `cohorts` that are known, by the cohorts' index: of each sample that is trained on."""
        known = {c.cohort.index: self._known.pop(c.cohort.index, None) for c in cohorts}
        return {index: logprobs for index, logprobs in known.items() if logprobs is not None}

    async def _next_scored(self, ends: Collection[asyncio.Task[Any]]) -> tuple[int, ScoredCohort] | None:
        """The next cohort to compute, or None if one of `ends` is done before there is any."""
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
