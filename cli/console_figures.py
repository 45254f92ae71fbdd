"""What a terminal shows of a run in progress: collected from its events, as short texts. Pure."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.reward_means import REWARD_NAMES

COMPONENTS = tuple(name for name in REWARD_NAMES if name != "total")
TOKENS_PER_S = "rollout/all_tokens_per_s"
"""In the history: tokens of all completions of an update by its seconds."""
SPARK_COLUMNS = 32
_BARS = "▁▂▃▄▅▆▇█"


@dataclass
class RunFigures:
    """The course of a run so far, as its events tell it."""

    total_updates: int | None = None
    version: int = 0
    stage: str = "starting"
    history: dict[str, list[float]] = field(default_factory=dict)
    """Of each metric of updates, its values since this process watches."""
    srcc: dict[str, list[float]] = field(default_factory=dict)
    """Of each evaluated split."""
    last: dict[str, float] = field(default_factory=dict)
    """The metrics of the last update."""
    workers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of each healthy rollout worker what it did lately; empty until it has been looked at twice."""
    faults: int = 0

    def take(self, event: Mapping[str, Any]) -> None:
        """Go on by one event of the run."""
        match event["kind"]:
            case "begin":
                self.total_updates, self.version = event["total_updates"], event["version"]
            case "stage":
                self.stage = event["text"]
            case "fault":
                self.faults += 1
            case "fleet":
                told = {record["worker"]: record for record in event["workers"]}
                self.workers = {name: told.get(name, {}) for name in sorted(event["healthy"], key=_by_number)}
            case "evaluation":
                if (srcc := event["scores"].get("srcc")) is not None:
                    self.srcc.setdefault(event["split"], []).append(srcc)
            case "update":
                self.version, self.last = event["update"] + 1, event["metrics"]
                for name, value in (self.last | {TOKENS_PER_S: self.tokens_per_s}).items():
                    self.history.setdefault(name, []).append(value)

    @property
    def headline_srcc(self) -> str:
        """The newest SRCC of the split that was judged first; empty before that."""
        return next((f"SRCC {values[-1]:.3f} ({split})" for split, values in self.srcc.items()), "")

    @property
    def tokens_per_s(self) -> float:
        """Tokens of completions, clean and perturbed, by the seconds of the last update; NaN before it."""
        step_s = self.last.get("timing/step_s", math.nan)
        return self.last.get("rollout/tokens", math.nan) / step_s if step_s else math.nan

    @property
    def idle_share(self) -> float:
        """Of the healthy workers' time, on average; NaN while unknown."""
        shares = [w["idle_share"] for w in self.workers.values() if "idle_share" in w]
        return math.fsum(shares) / len(shares) if shares else math.nan

    def rewards_line(self) -> str:
        """The last update's mean rewards: the total, and its components."""
        parts = [f"{name} {figure(self.last.get(f'reward/{name}'), 2)}" for name in COMPONENTS]
        return f"reward {figure(self.last.get('reward/total'), 2)} ({', '.join(parts)})"

    def rates_line(self) -> str:
        """Tokens a second, and where the seconds of the last update went."""
        step, wait, learn, sync = (
            figure(self.last.get(name), 1)
            for name in ("timing/step_s", "timing/wait_s", "learner/update_s", "sync/s")
        )
        tokens = f"{figure(self.tokens_per_s, 0)} tokens/s"
        return f"{tokens}, update {step} s (wait {wait}, train {learn}, sync {sync})"

    def fleet_line(self) -> str:
        """How many workers there are, and how idle they are; empty before the first look at them."""
        if not self.workers:
            return ""
        many = f"{len(self.workers)} worker{'s' if len(self.workers) != 1 else ''}"
        idle = "" if math.isnan(self.idle_share) else f", {self.idle_share:.0%} idle"
        faults = f", {self.faults} fault{'s' if self.faults != 1 else ''}" if self.faults else ""
        return many + idle + faults

    def update_line(self) -> str:
        """The last update on one line, for a log."""
        of = f" of {self.total_updates}" if self.total_updates else ""
        parts = [self.rewards_line(), self.headline_srcc, self.rates_line(), self.fleet_line()]
        return f"update {self.version}{of}: " + "; ".join(part for part in parts if part)


def sparkline(values: Sequence[float], columns: int = SPARK_COLUMNS) -> str:
    """Values from the lowest bar to the highest, in `columns` at most: neighbours are averaged.

    A value that is not finite is left out.
    """
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return ""
    columns = min(columns, len(known))
    edges = [len(known) * i // columns for i in range(columns + 1)]
    means = [math.fsum(known[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    if high == low:
        return _BARS[len(_BARS) // 2] * len(means)
    top = len(_BARS) - 1
    return "".join(_BARS[round((mean - low) / (high - low) * top)] for mean in means)


def figure(value: float | None, digits: int) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _by_number(worker: str) -> tuple[int, str]:
    """Sorts rollout-2 before rollout-10."""
    return len(worker), worker
