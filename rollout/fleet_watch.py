"""Polls rollout workers' statistics in the background, off the critical path."""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rollout.fleet import RolloutFleet
from rollout.worker import WorkerStats

EVERY_S = 10.0
ANSWER_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """Statistics of a worker between two polls. A share whose denominator is 0 is NaN."""

    worker: str
    version: int
    tokens_per_s: float
    """Completion tokens per second."""
    idle_share: float
    """Share of the time during which no request was running."""
    cached_prompt_share: float
    """Share of prompt tokens that came from the engine's prefix cache."""
    outstanding_tokens: int
    """Estimated tokens of the worker's unfinished requests, as the router counts them."""


Report = Callable[[int, Sequence[WorkerFigures], Sequence[str]], None]
"""Takes the number of the update, the workers' figures and the ids of the healthy workers."""


class FleetWatch:
    """Polls the fleet after updates, at most once per `every_s` seconds, and reports each worker's figures.

    A worker has figures after it has answered two polls in time.
    """

    def __init__(self, fleet: RolloutFleet, report: Report, every_s: float = EVERY_S) -> None:
        self._fleet = fleet
        self._report = report
        self._every_s = every_s
        self._looked = -math.inf
        self._looking: asyncio.Task[None] | None = None
        self._stats: dict[str, WorkerStats] = {}
        self.metrics: dict[str, float] = {}
        """Metrics of the whole fleet from the last poll, by the names that an update's metrics use."""

    def look(self, update: int) -> None:
        """Start a poll in the background, unless one is running or recent. Raises the last poll's error."""
        if self._looking is not None:
            if not self._looking.done():
                return
            self._looking.result()
        if time.monotonic() - self._looked >= self._every_s:
            self._looked = time.monotonic()
            self._looking = asyncio.create_task(self._look(update))

    async def close(self) -> None:
        """Cancel a poll in progress."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self, update: int) -> None:
        stats = {s.worker_id: s for s in await self._fleet.stats(ANSWER_TIMEOUT_S)}
        spans = [(self._stats[worker], now) for worker, now in stats.items() if worker in self._stats]
        self._stats |= stats
        outstanding = self._fleet.outstanding_tokens
        self.metrics = {
            "rollout/prefix_cache_hit_ratio": cached_prompt_share(spans),
            "rollout/waiting_videos": float(self._fleet.waiting),
        }
        figures = [worker_figures(then, now, outstanding.get(now.worker_id, 0)) for then, now in spans]
        self._report(update, figures, self._fleet.healthy)


def worker_figures(then: WorkerStats, now: WorkerStats, outstanding_tokens: int) -> WorkerFigures:
    """Compute a worker's figures from two of its totals, `then` and `now`."""
    seconds = now.clock_s - then.clock_s
    return WorkerFigures(
        now.worker_id,
        now.version,
        tokens_per_s=_ratio(now.completion_tokens - then.completion_tokens, seconds),
        idle_share=1.0 - _ratio(now.busy_s - then.busy_s, seconds),
        cached_prompt_share=cached_prompt_share([(then, now)]),
        outstanding_tokens=outstanding_tokens,
    )


def cached_prompt_share(spans: Sequence[tuple[WorkerStats, WorkerStats]]) -> float:
    """Return the share of cached prompt tokens over all `spans`; each is a pair of one worker's totals."""
    return _ratio(
        sum(now.cached_prompt_tokens - then.cached_prompt_tokens for then, now in spans),
        sum(now.prompt_tokens - then.prompt_tokens for then, now in spans),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
