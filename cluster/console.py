"""What a person sees in the terminal while a run goes on, and at its end."""

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from cluster.config import DerivedSizes, RunConfig, dump_config
from cluster.placement import PlacementPlan


class RunDisplay:
    """A progress bar fed with the controller's events; plain lines where output is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("starting", total=None, figures="")
        self._srcc, self._headline_split = "", ""

    def __enter__(self) -> "RunDisplay":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, event: dict[str, Any]) -> None:
        match event["kind"]:
            case "begin":
                self._progress.update(self._task, total=event["total_updates"], completed=event["version"])
            case "stage":
                self._progress.update(self._task, description=event["text"])
                if not self._console.is_terminal:
                    self._console.print(f"[{event['seconds']:6.0f} s] {event['text']}")
            case "warning":
                self._console.print(f"[yellow]skipped[/] {escape(event['text'])}")
            case "note":
                self._console.print(escape(event["text"]), highlight=False)
            case "fault":
                self._console.print(f"[yellow]{event['actor']}[/] {escape(event['reason'])}", highlight=False)
            case "evaluation":
                self._show_evaluation(event)
            case "update":
                self._show_update(event)

    def _show_evaluation(self, event: dict[str, Any]) -> None:
        scores = event["scores"]
        self._headline_split = self._headline_split or event["split"]
        if event["split"] == self._headline_split:
            self._srcc = f"SRCC {_figure(scores['srcc'], 3)}"
        mean = f", mean of samples {_figure(scores['mean_srcc'], 3)}" if "mean_srcc" in scores else ""
        self._console.print(
            f"[{event['seconds']:6.0f} s] version {event['version']}, {event['split']}: "
            f"SRCC {_figure(scores['srcc'], 3)} "
            f"({_figure(scores['srcc_low'], 2)} to {_figure(scores['srcc_high'], 2)}), "
            f"PLCC {_figure(scores['plcc'], 3)} unfitted{mean}; "
            f"{scores['videos']} videos, {scores['unparsed']} unparsed",
            highlight=False,
        )

    def _show_update(self, event: dict[str, Any]) -> None:
        metrics, done = event["metrics"], event["update"] + 1
        figures = (
            f"reward {_figure(metrics.get('reward/total'), 2)}  {self._srcc}  "
            f"{metrics['rollout/tokens'] / metrics['timing/step_s']:.0f} tokens/s"
        )
        self._progress.update(self._task, completed=done, figures=figures)
        if not self._console.is_terminal and (done == 1 or done % 10 == 0):
            self._console.print(f"[{event['seconds']:6.0f} s] update {done}: {figures}", highlight=False)


def print_plan(console: Console, config: RunConfig, sizes: DerivedSizes) -> None:
    """The resolved configuration, the derived sizes, and settings that are likely a mistake."""
    console.print("[bold]Configuration[/]")
    console.print_json(dump_config(config))
    table = Table("derived", "value", title="What follows from it", title_justify="left")
    for name, value in sizes.model_dump().items():
        table.add_row(name.replace("_", " "), f"{value:g}" if isinstance(value, float) else str(value))
    console.print(table)
    for warning in config.warnings():
        console.print(f"[yellow]warning[/] {warning}")


def print_placement(console: Console, plan: PlacementPlan) -> None:
    """Which node will do what, and what has no room yet; nothing for a single machine with room for all."""
    if len(plan.nodes) > 1:
        columns = ("node", "labels", "CPU", "GPU", *plan.placed[0])
        table = Table(*columns, title="Placement", title_justify="left")
        for node, placed in zip(plan.nodes, plan.placed, strict=True):
            own = ", ".join(f"{k}={v}" for k, v in node.labels.items() if not k.startswith("ray.io/node"))
            figures = [f"{node.cpus:g}", f"{node.gpus:g}", *(str(n or "") for n in placed.values())]
            table.add_row(node.address, own, *figures)
        console.print(table)
    for line in plan.missing:
        console.print(f"[yellow]waits for nodes[/] {escape(line)}", highlight=False)


def print_summary(console: Console, summary: dict[str, Any]) -> None:
    """Base against trained against ceiling."""
    table = Table("split", "model", "SRCC", "95 %", "PLCC", "SRCC, mean of samples", "unparsed",
                  title="Unseen clips: greedy answers, PLCC without a fit", title_justify="left")  # fmt: skip
    for split in summary["trained"]:
        for model in ("base", "trained", "ceiling"):
            scores = summary[model].get(split)
            if scores:
                table.add_row(
                    split, model, _figure(scores.get("srcc"), 3),
                    f"{_figure(scores.get('srcc_low'), 2)} to {_figure(scores.get('srcc_high'), 2)}",
                    _figure(scores.get("plcc"), 3), _figure(scores.get("mean_srcc"), 3),
                    str(scores.get("unparsed", "")),
                )  # fmt: skip
    console.print(table)
    for split, gains in summary["gain"].items():
        for name, gain in gains.items():
            what = "greedy" if name == "srcc" else "mean of samples"
            console.print(
                f"{split}, {what}: SRCC {gain['gain']:+.3f} over the base "
                f"(paired 95 % interval {gain['low']:+.3f} to {gain['high']:+.3f})",
                highlight=False,
            )


def _figure(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
