"""Metrics for Prometheus, handed to the agent that runs on every Ray node; without one they are dropped.

Ray puts `ray_` before the names given here. All of them have the label `run`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram

from monitoring.metric_table import about

PREFIX = "vqathinker"
FATES = ("trained", "skipped", "failed")
_SCORE_BOUNDS = [1 + step / 4 for step in range(1, 17)]
_REWARD_BOUNDS = [step / 4 for step in range(1, 17)]
_TOKEN_BOUNDS = [float(2**power) for power in range(3, 14)]


class PrometheusSink:
    """Gauges of an update's metrics and of each worker, histograms of its completions, counters of fates.

    A gauge holds its last value for as long as the run's controller lives. Those of a worker that is gone
    stay too, so that queries have to ask for `vqathinker_worker_healthy` being 1 beside them.
    """

    def __init__(self, run_name: str) -> None:
        self._run = {"run": run_name}
        self._gauges: dict[str, Gauge] = {}
        self._seen: set[str] = set()
        """Workers that have been healthy at some time."""
        histograms = {
            "completion_score": ("Scores of clean completions that parse", "scores", _SCORE_BOUNDS),
            "completion_reward": ("Total rewards of clean completions", "total", _REWARD_BOUNDS),
            "completion_length": ("Tokens of clean completions", "tokens", _TOKEN_BOUNDS),
        }
        self._histograms = {
            field: Histogram(f"{PREFIX}_{name}", description, boundaries=bounds, tag_keys=("run",))
            for name, (description, field, bounds) in histograms.items()
        }
        self._updates = Counter(f"{PREFIX}_updates", "Updates made", tag_keys=("run",))
        self._videos = Counter(f"{PREFIX}_videos", "Videos by what became of them", tag_keys=("run", "fate"))
        self._faults = Counter(f"{PREFIX}_faults", "Actors that failed", tag_keys=("run", "actor"))
        self._fault_times = Gauge(
            f"{PREFIX}_fault_timestamp_seconds",
            "Unix time at which an actor was last found to have failed",
            tag_keys=("run", "actor"),
        )

    def scalars(self, values: Mapping[str, float]) -> None:
        """Set the gauge of every metric `area/name`."""
        for name, value in values.items():
            self._gauge(name).set(value, self._run)

    def update(self, values: Mapping[str, float], groups: Sequence[Mapping[str, Any]]) -> None:
        """Count an update, its videos, and its completions."""
        self._updates.inc(1, self._run)
        for fate in FATES:
            if n := values.get(f"data/{fate}_videos"):
                self._videos.inc(n, self._run | {"fate": fate})
        for group in groups:
            for field, histogram in self._histograms.items():
                for value in group["clean"][field]:
                    if value is not None:
                        histogram.observe(value, self._run)

    def workers(self, figures: Sequence[Mapping[str, Any]], healthy: Sequence[str]) -> None:
        """Set the gauges of each worker: `figures` have its name as `worker`, and numbers."""
        for record in figures:
            labels = self._run | {"worker": record["worker"]}
            for name, value in record.items():
                if name != "worker":
                    self._gauge(f"worker/{name}", "worker").set(value, labels)
        self._seen |= set(healthy)
        for worker in self._seen:
            labels = self._run | {"worker": worker}
            self._gauge("worker/healthy", "worker").set(float(worker in healthy), labels)

    def fault(self, actor: str, at_s: float) -> None:
        """Count a failure of `actor`, found at the Unix time `at_s`."""
        labels = self._run | {"actor": actor}
        self._faults.inc(1, labels)
        self._fault_times.set(at_s, labels)

    def _gauge(self, name: str, *more_labels: str) -> Gauge:
        if name not in self._gauges:
            labels = ("run", *more_labels)
            self._gauges[name] = Gauge(metric_name(name), _description(name), tag_keys=labels)
        return self._gauges[name]


def _description(name: str) -> str:
    """What a metric means, in the ASCII that Ray takes."""
    return about(name).replace("…", "...").encode("ascii", "replace").decode()


def metric_name(name: str) -> str:
    """What `area/name` is called towards Ray: `vqathinker_area_name`."""
    return f"{PREFIX}_{re.sub('[^a-zA-Z0-9_]', '_', name)}"
