"""Bounds backpressure and staleness: holds every cohort in flight, from admission to training.

    buffer.admit(cohort)        waits until the cohort may start    (feed loop)
    buffer.add(cohort, scored)  hands in a scored cohort            (a task a cohort)
    buffer.next_scored(seen)    waits for a scored cohort, and leaves it where it is    (learn loop)
    buffer.take(update)         waits for all cohorts of an update  (learn loop)
    buffer.advance()            counts an update whose weights are on every engine: later cohorts may start

Why staleness is bounded: cohort c is trained by update u = plan.update_of(c), and the version before update
u is u, for the version counts finished updates. `admit(c)` returns only once `version >= u - max_staleness`.
Nothing of c is sampled before that, and versions never fall, so the oldest version that sampled any token
of c is at least u - max_staleness. The same inequality bounds the cohorts in flight to those of
max_staleness + 1 updates.
"""

import asyncio
from collections.abc import Container
from dataclasses import dataclass
from typing import Generic, TypeVar

Scored = TypeVar("Scored")


@dataclass(frozen=True, slots=True)
class UpdatePlan:
    """Cohorts are numbered from 0 over the whole run, and so are updates; an update never mixes epochs,
    so the last update of an epoch may hold fewer cohorts."""

    cohorts_per_epoch: int
    cohorts_per_update: int
    total_updates: int

    @property
    def updates_per_epoch(self) -> int:
        return -(-self.cohorts_per_epoch // self.cohorts_per_update)

    @property
    def total_cohorts(self) -> int:
        return self.cohorts_of(self.total_updates - 1).stop

    def update_of(self, cohort: int) -> int:
        """The update that trains on a cohort."""
        epoch, position = divmod(cohort, self.cohorts_per_epoch)
        return epoch * self.updates_per_epoch + position // self.cohorts_per_update

    def cohorts_of(self, update: int) -> range:
        """The cohorts that an update trains on."""
        epoch, position = divmod(update, self.updates_per_epoch)
        first = position * self.cohorts_per_update
        last = min(first + self.cohorts_per_update, self.cohorts_per_epoch)
        start = epoch * self.cohorts_per_epoch
        return range(start + first, start + last)


class CohortBuffer(Generic[Scored]):
    """See the module's docstring for the protocol. Not safe across threads: one event loop owns it."""

    def __init__(self, plan: UpdatePlan, max_staleness: int, version: int = 0) -> None:
        self._plan = plan
        self._max_staleness = max_staleness
        self._version = version
        self._scored: dict[int, Scored] = {}
        self._changed = asyncio.Condition()

    @property
    def version(self) -> int:
        """Updates done; the policy version that every engine holds."""
        return self._version

    def may_start(self, cohort: int) -> bool:
        return self._version >= self._plan.update_of(cohort) - self._max_staleness

    async def admit(self, cohort: int) -> None:
        """Wait until sampling of `cohort` cannot break the bound on staleness.

        The wait has no deadline of its own: it ends with the update in progress, whose calls all have one.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self.may_start(cohort))

    async def add(self, cohort: int, scored: Scored) -> None:
        async with self._changed:
            self._scored[cohort] = scored
            self._changed.notify_all()

    async def next_scored(self, seen: Container[int]) -> tuple[int, Scored]:
        """The first cohort that is scored, not taken yet and not in `seen`, with its index; it stays here."""
        async with self._changed:
            await self._changed.wait_for(lambda: any(c not in seen for c in self._scored))
            index = min(c for c in self._scored if c not in seen)
            return index, self._scored[index]

    async def take(self, update: int) -> list[Scored]:
        """The scored cohorts of `update`, in order, once all are there. Each is handed out once."""
        wanted = self._plan.cohorts_of(update)
        async with self._changed:
            await self._changed.wait_for(lambda: all(c in self._scored for c in wanted))
            return [self._scored.pop(c) for c in wanted]

    async def advance(self) -> int:
        """Count one update as done; returns the new version."""
        async with self._changed:
            self._version += 1
            self._changed.notify_all()
            return self._version
