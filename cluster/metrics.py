"""The one place that records metrics: JSON lines, TensorBoard and Prometheus. Names are `area/name`."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cluster.config import MetricsConfig
from cluster.fleet_watch import WorkerFigures
from cluster.run_dir import RunDirectory

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Metrics:
    """Writes one record an update to every sink. Values that are not finite are recorded as missing."""

    def __init__(self, run: RunDirectory, config: MetricsConfig, run_name: str) -> None:
        self._run = run
        self._attempt = 0
        self._with_tensorboard = config.tensorboard
        self._writer: SummaryWriter | None = None
        self._prometheus = None
        if config.prometheus:
            from cluster.prometheus import PrometheusSink

            self._prometheus = PrometheusSink(run_name)

    def begin(self, attempt: int, version: int) -> None:
        """Record under `attempt` from now on.

        `version`: where the attempt goes on; TensorBoard forgets what it was told of later ones.
        """
        self.close()
        self._attempt = attempt
        if self._with_tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._run.tensorboard), purge_step=version)

    def update(self, update: int, values: Mapping[str, float], groups: Sequence[Mapping[str, Any]]) -> None:
        """Record the metrics of `update`, the one that makes version update + 1.

        `groups`: the records of its groups, for sinks that keep distributions.
        """
        finite = _finite(values)
        self._run.append("metrics", self._header(update) | dict(sorted(finite.items())))
        self.scalars(update, finite)
        if self._prometheus is not None:
            self._prometheus.update(finite, groups)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Send values to the live sinks alone; their record is kept elsewhere."""
        finite = _finite(values)
        if self._writer is not None:
            for name, value in finite.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()
        if self._prometheus is not None:
            self._prometheus.scalars(finite)

    def fleet(self, update: int, figures: Sequence[WorkerFigures], healthy: Sequence[str]) -> None:
        """Record what each rollout worker did lately. `healthy`: the workers that take work now."""
        records = [_finite_or_missing(asdict(worker)) for worker in figures]
        self._run.append("fleet", *(self._header(update) | record for record in records))
        if self._prometheus is not None:
            self._prometheus.workers(records, healthy)

    def fault(self, actor: str) -> None:
        """Count a failure of `actor`; its record is kept elsewhere."""
        if self._prometheus is not None:
            self._prometheus.fault(actor)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _header(self, update: int) -> dict[str, Any]:
        return {"attempt": self._attempt, "update": update, "time": time.time()}


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def _finite_or_missing(record: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in record.items() if not isinstance(v, float) or math.isfinite(v)}
