"""What the commands share: the terminal, and options that several of them have."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

# A log has no width of its own, and lines cut at 80 columns are hard to search.
console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120)

Checkpoint = Annotated[
    str | None,
    typer.Option(
        help="run directory, model folder or hub name; default: newest finished run, else the demo's base",
        show_default=False,
    ),
]
Frames = Annotated[
    int | None, typer.Option("--frames", min=1, help="frames to sample from a video; default: the model's")
]
MaxPx = Annotated[
    int | None,
    typer.Option("--max-px", min=28, help="longer side of a frame, in pixels; default: the model's"),
]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", min=1, help="longest answer in tokens; default: the model's")
]
DecoderName = Annotated[str, typer.Option(help="video decoder: auto, decord or pyav")]
Start = Annotated[float | None, typer.Option(metavar="SECONDS", help="start of the part to use")]
End = Annotated[float | None, typer.Option(metavar="SECONDS", help="end of the part to use")]
AsVideo = Annotated[bool, typer.Option("--as-video", help="treat a folder of numbered pictures as one video")]
FrameRate = Annotated[
    float | None, typer.Option(help="pictures per second, with --as-video", show_default="25")
]
Strict = Annotated[
    bool, typer.Option("--strict", help="fail truncated files; default: score the part that is there")
]
Replicas = Annotated[
    int | None, typer.Option(min=1, help="number of engines; default: 1, on a cluster one per free GPU")
]
GpusPerReplica = Annotated[
    int | None, typer.Option(min=0, help="GPUs per engine; default: 1 if there are any, else 0")
]
Exact = Annotated[
    bool, typer.Option("--exact", help="make answers independent of batching, to the last bit; slower")
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="run Python code that comes with the checkpoint")
]


def scoring_options(context: typer.Context) -> dict[str, object]:
    """The options of a command that are fields of ScoringSettings, without `checkpoint`, which must be
    resolved."""
    from evaluation.settings import ScoringSettings

    names = ScoringSettings.model_fields.keys() - {"checkpoint"}
    return {name: value for name, value in context.params.items() if name in names}


def progress_bar(terminal: Console) -> Progress:
    """A progress bar with counts and times; invisible where output is not a terminal."""
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=terminal,
        disable=not terminal.is_terminal,
    )


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar; the yielded function takes (done, total)."""
    with progress_bar(console) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, n: bar.update(task, completed=done, total=n)


def print_reasons(
    terminal: Console, what: str, reasons: Sequence[tuple[str, str]], most: int, style: str | None = None
) -> None:
    """Print the number of (name, reason) and the first `most` of them; nothing if there are none."""
    if not reasons:
        return
    terminal.print(f"{len(reasons)} {what}", style=style, highlight=False, markup=False, soft_wrap=True)
    for name, reason in reasons[:most]:
        terminal.print(f"  {name}: {reason}", highlight=False, markup=False, soft_wrap=True)
    if len(reasons) > most:
        terminal.print(f"  and {len(reasons) - most} more", highlight=False)


def print_error(message: str) -> None:
    """Print to standard error, which keeps the output on standard output readable for programs."""
    errors = Console(stderr=True, width=console.width)
    errors.print("[red]error[/] ", end="")
    errors.print(message, highlight=False, markup=False)


def facts_table(title: str | None = None) -> Table:
    """An empty table of names and values."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), title=title, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    return table
