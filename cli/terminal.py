"""What the commands share: the terminal, and options that several of them have."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# A log has no width of its own, and lines cut at 80 columns are hard to search.
console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120)

Checkpoint = Annotated[
    str | None,
    typer.Option(
        help="run directory, model folder or hub name; default: the newest finished run, or the base",
        show_default=False,
    ),
]
Frames = Annotated[int | None, typer.Option(min=1, help="frames of a video; default: the model's")]
MaxPx = Annotated[int | None, typer.Option(min=28, help="longer side of one; default: the model's")]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="of an answer; default: the model's")]
DecoderName = Annotated[str, typer.Option(help="auto, decord or pyav")]
Replicas = Annotated[
    int | None, typer.Option(min=1, help="engines; default: 1, and on a cluster one a free GPU")
]
GpusPerReplica = Annotated[
    int | None, typer.Option(min=0, help="GPUs of one engine; default: 1 if there are any")
]
Exact = Annotated[
    bool, typer.Option("--exact", help="the same to the last bit whatever is asked together; slower")
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="run Python code that comes with the checkpoint")
]


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar where there is a terminal; the yielded function takes what is done and how many there
    are."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, n: bar.update(task, completed=done, total=n)


def failure(message: str) -> typer.Exit:
    """Print an error; to be raised."""
    print_error(message)
    return typer.Exit(1)


def print_error(message: str) -> None:
    """On standard error: what a command prints for other programs stays whole."""
    errors = Console(stderr=True, width=console.width)
    errors.print("[red]error[/] ", end="")
    errors.print(message, highlight=False, markup=False)
