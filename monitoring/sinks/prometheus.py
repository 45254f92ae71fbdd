"""Export metrics to Prometheus through the metrics agent of the Ray node; without an agent they are dropped.

Ray adds the prefix `ray_` to the names given here. All metrics have the label `run`.
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
    """Exports gauges of updates and workers, histograms of completions, and counters of videos and faults.

    A gauge keeps its last value while the run's controller is alive, even if its worker has failed. Queries
    must therefore select workers whose `vqathinker_worker_healthy` is 1.
    """

    def __init__(self, run_name: str) -> None:
        self._run = {"run": run_name}
        self._gauges: dict[str, Gauge] = {}
        self._seen: set[str] = set()
        """Workers that have ever been healthy."""
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
        self._videos = Counter(f"{PREFIX}_videos", "Videos by outcome", tag_keys=("run", "fate"))
        self._faults = Counter(f"{PREFIX}_faults", "Actors that failed", tag_keys=("run", "actor"))
        self._fault_times = Gauge(
            f"{PREFIX}_fault_timestamp_seconds",
            "Unix time at which an actor was last found to have failed",
            tag_keys=("run", "actor"),
        )

    def scalars(self, values: Mapping[str, float]) -> None:
        """Set the gauges of the metrics, whose names are `area/name`."""
        for name, value in values.items():
            self._gauge(name).set(value, self._run)

    def update(self, values: Mapping[str, float], groups: Sequence[Mapping[str, Any]]) -> None:
        """Count an update and its videos, and add its completions to the histograms.

        `groups` are the update's lines in groups.jsonl.
        """
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
        """Set the gauges of workers. Each item of `figures` has a worker's name as `worker`, and numbers."""
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
        """Count a failure of `actor`, detected at the Unix time `at_s`."""
        labels = self._run | {"actor": actor}
        self._faults.inc(1, labels)
        self._fault_times.set(at_s, labels)

    def _gauge(self, name: str, *more_labels: str) -> Gauge:
        if name not in self._gauges:
            labels = ("run", *more_labels)
            self._gauges[name] = Gauge(metric_name(name), _description(name), tag_keys=labels)
        return self._gauges[name]


def _description(name: str) -> str:
    """A metric's description in ASCII; Ray accepts nothing else."""
    return about(name).replace("…", "...").encode("ascii", "replace").decode()


def metric_name(name: str) -> str:
    """The name under which the metric `area/name` is registered in Ray: `vqathinker_area_name`."""
    return f"{PREFIX}_{re.sub('[^a-zA-Z0-9_]', '_', name)}"
