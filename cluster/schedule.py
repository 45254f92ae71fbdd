"""Which cohorts an update trains on, as plain arithmetic."""

from dataclasses import dataclass


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
