"""The one place that records metrics: JSON lines, Prometheus, TensorBoard, Weights & Biases. Names are
`area/name`."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cluster.config import RunConfig
from monitoring.run_dir import RunDirectory
from monitoring.sinks.feed import DashboardFeed, start_actor
from rollout.fleet_watch import WorkerFigures


class Metrics:
    """Writes one record an update to every sink. Values that are not finite are recorded as missing.

    `on_fault` is told when TensorBoard and Weights & Biases were given up: who failed, and why.
    """

    def __init__(self, run: RunDirectory, config: RunConfig, on_fault: Callable[[str, str], None]) -> None:
        self._run = run
        self._config = config
        self._on_fault = on_fault
        self._attempt = 0
        self._dashboards: DashboardFeed | None = None
        self._prometheus = None
        if config.metrics.prometheus:
            from monitoring.sinks.prometheus import PrometheusSink

            self._prometheus = PrometheusSink(config.name)

    def begin(self, attempt: int, version: int) -> None:
        """Record under `attempt` from now on.

        `version`: where the attempt goes on; dashboards forget what they were told of later ones.
        """
        self._attempt = attempt
        wanted = self._config.metrics.tensorboard or self._config.metrics.wandb != "off"
        if wanted and self._dashboards is None:
            lost = "{}; TensorBoard and Weights & Biases get no more of this run".format
            self._dashboards = DashboardFeed(
                start_actor(self._config), lambda reason: self._on_fault("dashboards", lost(reason))
            )
        if self._dashboards is not None:
            self._dashboards.tell("begin", attempt, version)

    def update(self, update: int, values: Mapping[str, float], groups: Sequence[Mapping[str, Any]]) -> None:
        """Record the metrics of `update`, the one that makes version update + 1.

        `groups`: the records of its groups, for sinks that keep distributions.
        """
        finite = _finite(values)
        self._run.append("metrics", self._header(update) | dict(sorted(finite.items())))
        if self._dashboards is not None:
            self._dashboards.tell("update", update + 1, finite, groups)
        if self._prometheus is not None:
            self._prometheus.scalars(finite)
            self._prometheus.update(finite, groups)

    def evaluation(self, version: int, values: Mapping[str, float]) -> None:
        """Send the scores of a version to the live sinks alone; their record is kept elsewhere."""
        finite = _finite(values)
        if self._dashboards is not None:
            self._dashboards.tell("scalars", version, finite)
        if self._prometheus is not None:
            self._prometheus.scalars(finite)

    def fleet(self, update: int, figures: Sequence[WorkerFigures], healthy: Sequence[str]) -> None:
        """Record what each rollout worker did lately. `healthy`: the workers that take work now."""
        records = [_finite_or_missing(asdict(worker)) for worker in figures]
        self._run.append("fleet", *(self._header(update) | record for record in records))
        if self._prometheus is not None:
            self._prometheus.workers(records, healthy)

    def fault(self, actor: str, at_s: float) -> None:
        """Count a failure of `actor`, found at the Unix time `at_s`; its record is kept elsewhere."""
        if self._prometheus is not None:
            self._prometheus.fault(actor, at_s)

    async def close(self) -> None:
        """Let the dashboards finish, for as long as ending the run's actors may take."""
        if self._dashboards is not None:
            await self._dashboards.close(self._config.cluster.shutdown_timeout_s)
            self._dashboards = None

    def _header(self, update: int) -> dict[str, Any]:
        return {"attempt": self._attempt, "update": update, "time": time.time()}


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def _finite_or_missing(record: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in record.items() if not isinstance(v, float) or math.isfinite(v)}
