"""What a person sees in the terminal before a run starts, and at its end."""

from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.console_figures import figure
from cli.memory_console import trains
from cluster.config import DerivedSizes, RunConfig, dump_config
from cluster.placement_plan import PlacementPlan
from cluster.planning.architecture import UnknownArchitectureError, read_architecture


def print_plan(console: Console, config: RunConfig, sizes: DerivedSizes) -> None:
    """The resolved configuration, the derived sizes, and settings that are likely a mistake."""
    console.print("[bold]Configuration[/]")
    console.print_json(dump_config(config))
    table = Table("derived", "value", title="What follows from it", title_justify="left")
    for name, value in sizes.model_dump().items():
        table.add_row(name.replace("_", " "), f"{value:g}" if isinstance(value, float) else str(value))
    console.print(table)
    with suppress(UnknownArchitectureError):
        console.print(trains(config, read_architecture(config.model.path)), highlight=False)
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
                    split, model, figure(scores.get("srcc"), 3),
                    f"{figure(scores.get('srcc_low'), 2)} to {figure(scores.get('srcc_high'), 2)}",
                    figure(scores.get("plcc"), 3), figure(scores.get("mean_srcc"), 3),
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
