"""The terminal display of a running job."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from cli.terminal import progress_bar
from monitoring.metric_table import reward_names

SPARK_COLUMNS = 32
_BARS = "▁▂▃▄▅▆▇█"


@dataclass
class RunFigures:
    """The metrics and state of a run, accumulated from its events."""

    total_updates: int | None = None
    version: int = 0
    stage: str = "starting"
    history: dict[str, list[float]] = field(default_factory=dict)
    """Values of each update metric since this process started."""
    srcc: dict[str, list[float]] = field(default_factory=dict)
    """SRCC values of each evaluated split."""
    last: dict[str, float] = field(default_factory=dict)
    """The metrics of the latest update."""
    workers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Recent statistics of each healthy rollout worker. They are empty until two polls have returned."""
    faults: int = 0

    def take(self, event: Mapping[str, Any]) -> None:
        """Apply one event of the run."""
        match event["kind"]:
            case "begin":
                self.total_updates, self.version = event["total_updates"], event["version"]
            case "stage":
                self.stage = event["text"]
            case "fault":
                self.faults += 1
            case "fleet":
                records = {record["worker"]: record for record in event["workers"]}
                self.workers = {
                    name: records.get(name, {}) for name in sorted(event["healthy"], key=_by_number)
                }
            case "evaluation":
                if (srcc := event["scores"].get("srcc")) is not None:
                    self.srcc.setdefault(event["split"], []).append(srcc)
            case "update":
                self.version, self.last = event["update"] + 1, event["metrics"]
                for name, value in self.last.items():
                    self.history.setdefault(name, []).append(value)

    @property
    def headline_srcc(self) -> str:
        """The latest SRCC of the split that was evaluated first; empty before any evaluation."""
        return next((f"SRCC {values[-1]:.3f} ({split})" for split, values in self.srcc.items()), "")

    @property
    def idle_share(self) -> float:
        """Mean share of time that healthy workers were idle; NaN before it has been measured."""
        shares = [w["idle_share"] for w in self.workers.values() if "idle_share" in w]
        return math.fsum(shares) / len(shares) if shares else math.nan

    def rewards_line(self) -> str:
        """The mean rewards of the latest update as text: the total and its components."""
        names = reward_names(self.last)
        parts = [f"{name} {figure(self.last.get(f'reward/{name}'), 2)}" for name in names if name != "total"]
        return f"reward {figure(self.last.get('reward/total'), 2)} ({', '.join(parts)})"

    def rates_line(self) -> str:
        """Tokens per second and the durations within the latest update, as text."""
        step, wait, learn, sync = (
            figure(self.last.get(name), 1)
            for name in ("timing/step_s", "timing/wait_s", "learner/update_s", "sync/s")
        )
        tokens = f"{figure(self.last.get('rollout/tokens_per_s'), 0)} tokens/s"
        return f"{tokens}, update {step} s (wait {wait}, train {learn}, sync {sync})"

    def fleet_line(self) -> str:
        """The number of workers, their idle share and the number of faults as text; empty without workers."""
        if not self.workers:
            return ""
        many = f"{len(self.workers)} worker{'s' if len(self.workers) != 1 else ''}"
        idle = "" if math.isnan(self.idle_share) else f", {self.idle_share:.0%} idle"
        faults = f", {self.faults} fault{'s' if self.faults != 1 else ''}" if self.faults else ""
        return many + idle + faults

    def update_line(self) -> str:
        """The latest update on one line, for a log."""
        of = f" of {self.total_updates}" if self.total_updates else ""
        parts = [self.rewards_line(), self.headline_srcc, self.rates_line(), self.fleet_line()]
        return f"update {self.version}{of}: " + "; ".join(part for part in parts if part)


def sparkline(values: Sequence[float], columns: int = SPARK_COLUMNS) -> str:
    """Draw finite values as at most `columns` bars. With more values, each bar is the mean of neighbours."""
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
    """Format a number; a dash for None and NaN."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _by_number(worker: str) -> tuple[int, str]:
    """Sort key that puts rollout-2 before rollout-10."""
    return len(worker), worker


PLAIN_EVERY_S = 30.0
"""Minimum time between lines about updates if output is not a terminal."""
MOST_WORKERS = 8
_REFRESHES_PER_S = 2
_TITLE_COLUMNS = 12
_WIDE = 100


class RunDisplay:
    """Displays a run as a live panel, or as plain lines if output is not a terminal.

    Evaluations, faults and notes are printed as lines in both cases; a panel stays below them.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._figures = RunFigures()
        self._line_at_s = -math.inf
        self._skipped: set[str] = set()
        """Warnings already printed. A bad file causes the same warning in every epoch."""
        self._progress = progress_bar(console)
        self._task = self._progress.add_task(self._figures.stage, total=None)
        self._live = Live(
            console=console, get_renderable=self._panel, refresh_per_second=_REFRESHES_PER_S
        ) if console.is_terminal else None  # fmt: skip

    def __enter__(self) -> "RunDisplay":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, event: dict[str, Any]) -> None:
        """Apply one event of the run to the display and print its line, if it has one."""
        figures = self._figures
        figures.take(event)
        self._progress.update(
            self._task, total=figures.total_updates, completed=figures.version, description=figures.stage
        )
        match event["kind"]:
            case "stage" if self._live is None:
                self._line(event, event["text"])
            case "warning" if event["text"] not in self._skipped:
                self._skipped.add(event["text"])
                self._console.print(f"[yellow]skipped[/] {escape(event['text'])}", soft_wrap=True)
            case "note":
                self._console.print(escape(event["text"]), highlight=False)
            case "fault":
                self._line(event, f"{event['actor']}: {event['reason']}", style="yellow")
            case "evaluation":
                self._line(event, _evaluation(event))
            case "update" if self._live is None:
                self._plain_update(event)

    def _plain_update(self, event: dict[str, Any]) -> None:
        last = self._figures.version == self._figures.total_updates
        if last or event["seconds"] - self._line_at_s >= PLAIN_EVERY_S:
            self._line_at_s = event["seconds"]
            self._line(event, self._figures.update_line())

    def _line(self, event: dict[str, Any], text: str, style: str | None = None) -> None:
        line = f"[{event['seconds']:6.0f} s] {text}"
        self._console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)

    def _panel(self) -> RenderableType:
        figures = self._figures
        table = Table(box=None, show_header=False, pad_edge=False)
        columns = SPARK_COLUMNS if self._console.width >= _WIDE else SPARK_COLUMNS // 2
        table.add_column(style="dim", no_wrap=True, min_width=_TITLE_COLUMNS)
        table.add_column(no_wrap=True, style="cyan", min_width=columns)
        table.add_column(no_wrap=True, overflow="ellipsis")
        for name in reward_names(figures.history):
            values = figures.history.get(f"reward/{name}", [])
            if any(map(math.isfinite, values)):
                title = "reward" if name == "total" else f"  {name}"
                table.add_row(title, sparkline(values, columns), figure(values[-1], 3))
        for split, values in figures.srcc.items():
            table.add_row(
                f"SRCC {split}", sparkline(values, columns), f"{values[-1]:.3f}, at first {values[0]:.3f}"
            )
        if figures.last:
            table.add_row(
                "rates",
                sparkline(figures.history.get("rollout/tokens_per_s", []), columns),
                figures.rates_line(),
            )
            kl = figures.history.get("policy/kl_to_base", [])
            table.add_row("policy", sparkline(kl, columns), _policy(figures))
        for name, worker in list(figures.workers.items())[:MOST_WORKERS]:
            table.add_row(name, "", _worker(worker))
        if len(figures.workers) > MOST_WORKERS:
            table.add_row(f"and {len(figures.workers) - MOST_WORKERS} more", "", figures.fleet_line())
        return Group(self._progress, table)


def _evaluation(event: dict[str, Any]) -> str:
    scores = event["scores"]
    of = scores.get("of_videos", scores["videos"])
    videos = f"{scores['videos']} videos" if of == scores["videos"] else f"{scores['videos']} of {of} videos"
    mean = f", mean of samples {figure(scores['mean_srcc'], 3)}" if "mean_srcc" in scores else ""
    return (
        f"version {event['version']}, {event['split']}: SRCC {figure(scores['srcc'], 3)} "
        f"({figure(scores['srcc_low'], 2)} to {figure(scores['srcc_high'], 2)}), "
        f"PLCC {figure(scores['plcc'], 3)} unfitted{mean}; "
        f"{videos}, {scores['unparsed']} unparsed"
    )


def _policy(figures: RunFigures) -> str:
    return ", ".join(
        f"{title} {figure(figures.last.get(name), digits)}"
        for title, name, digits in (
            ("KL to base", "policy/kl_to_base", 4),
            ("entropy", "policy/entropy", 3),
            ("unparsed", "rollout/unparsed_ratio", 3),
            ("staleness", "staleness/max", 0),
        )
    )


def _worker(worker: Any) -> str:
    if not worker:
        return "healthy"
    return (
        f"{figure(worker['tokens_per_s'], 0)} tokens/s, {worker['idle_share']:.0%} idle, version "
        f"{worker['version']}"
    )
