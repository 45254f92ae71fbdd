"""Holds every cohort in flight, from admission to training, and so bounds staleness and memory.

    buffer.admit(cohort)        waits until the cohort may start    (feed loop)
    buffer.add(cohort, scored)  adds a scored cohort                (one task per cohort)
    buffer.next_scored(seen)    waits for a scored cohort, without removing it          (learn loop)
    buffer.take(update)         waits for all cohorts of an update  (learn loop)
    buffer.advance()            counts an update whose weights are on every engine: later cohorts may start

Staleness is bounded for this reason: update u = plan.update_of(c) trains on cohort c. The version before
update u is u, because the version counts finished updates. `admit(c)` returns only once `version >= u -
max_staleness`. No completion of c is sampled before that, and versions never decrease. So every token of c is
sampled by a version of at least u - max_staleness. The same inequality limits the cohorts in flight to those
of max_staleness + 1 updates.
"""

import asyncio
from collections.abc import Container
from dataclasses import dataclass
from typing import Generic, TypeVar

Scored = TypeVar("Scored")


@dataclass(frozen=True, slots=True)
class UpdatePlan:
    """Assigns cohorts to updates. Both are numbered from 0 over the whole run. An update never mixes epochs,
    so the last update of an epoch may have fewer cohorts."""

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
        """Return the update that trains on a cohort."""
        epoch, position = divmod(cohort, self.cohorts_per_epoch)
        return epoch * self.updates_per_epoch + position // self.cohorts_per_update

    def cohorts_of(self, update: int) -> range:
        """Return the cohorts that an update trains on."""
        epoch, position = divmod(update, self.updates_per_epoch)
        first = position * self.cohorts_per_update
        last = min(first + self.cohorts_per_update, self.cohorts_per_epoch)
        start = epoch * self.cohorts_per_epoch
        return range(start + first, start + last)


class CohortBuffer(Generic[Scored]):
    """The buffer that the module's docstring describes. Not thread-safe: use it from one event loop only."""

    def __init__(self, plan: UpdatePlan, max_staleness: int, version: int = 0) -> None:
        self._plan = plan
        self._max_staleness = max_staleness
        self._version = version
        self._scored: dict[int, Scored] = {}
        self._changed = asyncio.Condition()

    @property
    def version(self) -> int:
        """Number of finished updates, which is the policy version that every engine holds."""
        return self._version

    def may_start(self, cohort: int) -> bool:
        return self._version >= self._plan.update_of(cohort) - self._max_staleness

    async def admit(self, cohort: int) -> None:
        """Wait until sampling of `cohort` cannot break the bound on staleness.

        The wait has no deadline itself. It ends with the update in progress, whose calls all have deadlines.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self.may_start(cohort))

    async def add(self, cohort: int, scored: Scored) -> None:
        async with self._changed:
            self._scored[cohort] = scored
            self._changed.notify_all()

    async def next_scored(self, seen: Container[int]) -> tuple[int, Scored]:
        """Wait for the first scored cohort that is not taken and not in `seen`. Returns its index and the
        cohort, without removing it."""
        async with self._changed:
            await self._changed.wait_for(lambda: any(c not in seen for c in self._scored))
            index = min(c for c in self._scored if c not in seen)
            return index, self._scored[index]

    async def take(self, update: int) -> list[Scored]:
        """Wait for all scored cohorts of `update`, and return them in order. Removes them from the buffer."""
        wanted = self._plan.cohorts_of(update)
        async with self._changed:
            await self._changed.wait_for(lambda: all(c in self._scored for c in wanted))
            return [self._scored.pop(c) for c in wanted]

    async def advance(self) -> int:
        """Count one update as finished, and return the new version."""
        async with self._changed:
            self._version += 1
            self._changed.notify_all()
            return self._version
