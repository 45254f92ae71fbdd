"""Records a run in its directory, and as events for the command that follows it."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cluster.config import RunConfig
from cluster.nccl_log import NcclTransport, describe, tcp_warning
from cluster.training_batch import TrainingBatch
from evaluation.held_out import Prediction
from monitoring.run_dir import RunDirectory
from monitoring.sinks.dashboards import DashboardFeed, start_actor
from rewards.registry import rewards_of
from rollout.fleet_watch import WorkerFigures

EVENTS_KEPT = 1000


class Journal:
    """Records updates and evaluations under the current attempt, and keeps the best version so far."""

    def __init__(self, run: RunDirectory, config: RunConfig) -> None:
        self._run = run
        self._metrics = Metrics(run, config, self.fault)
        self._while_training = config.evaluation.while_training
        self._attempt: int | None = None
        self._started = time.monotonic()
        self._earlier_s = 0.0
        self._best: tuple[float, int] | None = None
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS_KEPT)
        self._n_events = 0
        self.current_stage = ""
        self.last_metrics: dict[str, float] = {}

    def begin(self, version: int, total_updates: int, state: Mapping[str, Any]) -> None:
        """Start a new attempt at `version`, with the state kept in its checkpoint."""
        if self._attempt is None:  # otherwise this process has counted these seconds itself
            self._earlier_s = float(state.get("seconds", 0.0))
        self._attempt = self._run.start_attempt(version)
        self._metrics.begin(self._attempt, version)
        self._best = None
        for record in self._run.read_lines("evaluations"):
            self._rank(record["version"], record["split"], record)
        self._emit("begin", version=version, total_updates=total_updates)

    def state(self) -> dict[str, Any]:
        """Return the journal's state, to be stored in a checkpoint."""
        return {"seconds": self.seconds, "attempt": self._attempt}

    @property
    def seconds(self) -> float:
        """Seconds that the run has taken so far, over all attempts."""
        return self._earlier_s + time.monotonic() - self._started

    @property
    def best_version(self) -> int | None:
        return self._best[1] if self._best else None

    def stage(self, text: str) -> None:
        self.current_stage = text
        self._emit("stage", text=text)

    def note(self, text: str) -> None:
        """Emit a line of text."""
        self._emit("note", text=text)

    def transport(self, found: Sequence[NcclTransport]) -> None:
        """Record which transports NCCL chose, and warn if it sends over TCP."""
        self._run.record(nccl=[asdict(process) for process in found])
        self.note(describe(found))
        if (warning := tcp_warning(found)) is not None:
            self._emit("warning", text=warning)

    def fault(self, actor: str, reason: str) -> None:
        """Record that an actor failed. The event contains only the first line of `reason`."""
        now_s = time.time()
        record = {"attempt": self._attempt or 0, "time": now_s, "actor": actor, "reason": reason}
        self._run.append("faults", record)
        self._metrics.fault(actor, now_s)
        self._emit("fault", actor=actor, reason=reason.splitlines()[0])

    def recovery(self, actor: str, successor: str, seconds: float) -> None:
        """Record the actor that replaced a failed one, `seconds` after the failure was detected."""
        record = {
            "attempt": self._attempt or 0,
            "time": time.time(),
            "actor": actor,
            "successor": successor,
            "seconds": round(seconds, 2),
        }
        self._run.append("recoveries", record)
        self._emit("note", text=f"{successor} in place of {actor}, after {seconds:.0f} s")

    def update(self, update: int, batch: TrainingBatch, metrics: Mapping[str, float]) -> None:
        """Record one update: its metrics, its groups, the failed rows, and the files with unusual facts."""
        header = {"attempt": self._attempt, "update": update}
        self._run.append("groups", *(header | record for record in batch.group_records))
        self._run.append("failures", *(header | asdict(failure) for failure in batch.failures))
        self._run.append("marks", *(header | marked for marked in _marked(batch.group_records)))
        self._metrics.update(update, metrics, batch.group_records)
        for failure in batch.failures:
            named = failure.reason.startswith(failure.path)
            self._emit("warning", text=failure.reason if named else f"{failure.path}: {failure.reason}")
        self.last_metrics = dict(metrics)
        self._emit("update", update=update, metrics=self.last_metrics)

    def fleet(self, update: int, figures: Sequence[WorkerFigures], healthy: Sequence[str]) -> None:
        """Record each rollout worker's recent rates, at about the time of `update`."""
        self._metrics.fleet(update, figures, healthy)
        self._emit("fleet", workers=[asdict(worker) for worker in figures], healthy=list(healthy))

    def evaluation(
        self, version: int, split: str, scores: Mapping[str, Any], predictions: Sequence[Prediction]
    ) -> None:
        """Record the scores of `version` on a split. The record belongs to the update that made the version.

        The predictions are written first: whoever finds the record finds them, too.
        """
        record = {"attempt": self._attempt, "update": version - 1, "version": version, "split": split}
        self._run.write_predictions(version, split, [p.to_json() for p in predictions])
        self._run.append("evaluations", record | dict(scores))
        figures = {f"eval/{split}/{k}": v for k, v in scores.items() if isinstance(v, float)}
        self._metrics.evaluation(version, figures)
        self._rank(version, split, scores)
        self._emit("evaluation", version=version, split=split, scores=dict(scores))

    def _rank(self, version: int, split: str, scores: Mapping[str, Any]) -> None:
        """Update the best version, comparing versions on the videos that all were evaluated on."""
        srcc = scores.get("subset_srcc", scores.get("srcc"))
        chooses = version > 0 and [split] == self._while_training[:1]
        if chooses and srcc is not None and (self._best is None or srcc > self._best[0]):
            self._best = (srcc, version)

    def events(self, after: int) -> tuple[int, list[dict[str, Any]]]:
        """Return the number to pass as `after` in the next call, and the events from number `after`."""
        first = self._n_events - len(self._events)
        return self._n_events, list(self._events)[max(0, after - first) :]

    def summary(self, finished: bool) -> dict[str, Any]:
        return {"finished": finished, "seconds": round(self.seconds, 1)}

    async def close(self) -> None:
        await self._metrics.close()

    def _emit(self, kind: str, **fields: Any) -> None:
        self._events.append({"kind": kind, "seconds": self.seconds} | fields)
        self._n_events += 1


class Metrics:
    """Writes one record per update to every sink: JSON lines, Prometheus, TensorBoard, Weights & Biases.

    Names are `area/name`. Values that are not finite are recorded as missing.

    `on_fault` is called with the actor's name and the reason if TensorBoard and Weights & Biases fail.
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

        `version`: where the attempt resumes; dashboards discard later steps.
        """
        self._attempt = attempt
        wanted = self._config.metrics.tensorboard or self._config.metrics.wandb != "off"
        if wanted and self._dashboards is None:
            lost = "{}; TensorBoard and Weights & Biases get no more of this run".format
            self._dashboards = DashboardFeed(
                start_actor(
                    self._config.metrics,
                    self._config.data,
                    self._run.path,
                    self._config.model_dump(mode="json"),
                    [reward.name for reward in rewards_of(self._config.rewards)],
                ),
                lambda reason: self._on_fault("dashboards", lost(reason)),
            )
        if self._dashboards is not None:
            self._dashboards.tell("begin", attempt, version)

    def update(self, update: int, values: Mapping[str, float], groups: Sequence[Mapping[str, Any]]) -> None:
        """Record the metrics of `update`, the one that makes version update + 1.

        `groups`: the records of its groups, for sinks that store distributions.
        """
        finite = _finite(values)
        self._run.append("metrics", self._header(update) | dict(sorted(finite.items())))
        if self._dashboards is not None:
            self._dashboards.tell("update", update + 1, finite, groups)
        if self._prometheus is not None:
            self._prometheus.scalars(finite)
            self._prometheus.update(finite, groups)

    def evaluation(self, version: int, values: Mapping[str, float]) -> None:
        """Send the scores of a version to the live sinks only. The journal records them."""
        finite = _finite(values)
        if self._dashboards is not None:
            self._dashboards.tell("scalars", version, finite)
        if self._prometheus is not None:
            self._prometheus.scalars(finite)

    def fleet(self, update: int, figures: Sequence[WorkerFigures], healthy: Sequence[str]) -> None:
        """Record each rollout worker's recent rates. `healthy`: the workers that take work."""
        records = [_finite_or_missing(asdict(worker)) for worker in figures]
        self._run.append("fleet", *(self._header(update) | record for record in records))
        if self._prometheus is not None:
            self._prometheus.workers(records, healthy)

    def fault(self, actor: str, at_s: float) -> None:
        """Count a failure of `actor`, detected at the Unix time `at_s`. The journal records it."""
        if self._prometheus is not None:
            self._prometheus.fault(actor, at_s)

    async def close(self) -> None:
        """Wait at most cluster.shutdown_timeout_s for the dashboards to finish."""
        if self._dashboards is not None:
            await self._dashboards.close(self._config.cluster.shutdown_timeout_s)
            self._dashboards = None

    def _header(self, update: int) -> dict[str, Any]:
        return {"attempt": self._attempt, "update": update, "time": time.time()}


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


def _finite_or_missing(record: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in record.items() if not isinstance(v, float) or math.isfinite(v)}


def _marked(groups: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for group in groups:
        if group["marks"]:
            yield {
                "epoch": group["epoch"],
                "video_id": group["video_id"],
                "path": group["clean"]["ref"]["path"],
                "marks": group["marks"],
            }
