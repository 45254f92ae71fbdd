"""Updates whose loss or gradient is not finite: they leave the weights alone, and too many end the run."""

from collections.abc import Mapping

from cluster.training_batch import TrainingBatch

REASON = "loss or gradient not finite"
_TELLING = ("learner/loss", "learner/lr", "policy/")


class TrainingDiverged(RuntimeError):
    """Too many updates in a row had a loss or gradient that is not finite; says what they looked like."""


class FiniteUpdates:
    """Watches a run's updates. `limit`: how many in a row may be skipped before the run ends."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._in_a_row = 0

    def check(self, batch: TrainingBatch, metrics: Mapping[str, float], update: int) -> TrainingBatch:
        """The batch as it is to be recorded: of a skipped update, nothing was trained on.

        Raises TrainingDiverged when the limit is reached.
        """
        if not metrics.get("learner/skipped"):
            self._in_a_row = 0
            return batch
        self._in_a_row += 1
        if self._in_a_row >= self._limit:
            figures = ", ".join(f"{k} {v:g}" for k, v in sorted(metrics.items()) if k.startswith(_TELLING))
            raise TrainingDiverged(
                f"{self._in_a_row} updates in a row, up to update {update}, had a {REASON} ({figures}); "
                f"the usual cures are a lower learner.lr, a lower learner.max_grad_norm or a higher "
                f"learner.kl_coefficient, from a checkpoint before it began"
            )
        return batch.skipped(REASON)
