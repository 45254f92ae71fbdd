"""The console, and output that several commands share."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

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

# If output goes to a log, use 120 columns: rich's default of 80 breaks lines that people search for.
console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120)


def progress_bar(terminal: Console) -> Progress:
    """Create a progress bar with counts and times. It prints nothing if output is not a terminal."""
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
    """Print the number of `reasons`, and the first `most` pairs (name, reason). Print nothing without any."""
    if not reasons:
        return
    terminal.print(f"{len(reasons)} {what}", style=style, highlight=False, markup=False, soft_wrap=True)
    for name, reason in reasons[:most]:
        terminal.print(f"  {name}: {reason}", highlight=False, markup=False, soft_wrap=True)
    if len(reasons) > most:
        terminal.print(f"  and {len(reasons) - most} more", highlight=False)


def print_error(message: str) -> None:
    """Print an error to standard error, so that standard output stays machine-readable."""
    errors = Console(stderr=True, width=console.width)
    errors.print("[red]error[/] ", end="")
    errors.print(message, highlight=False, markup=False)


def facts_table(title: str | None = None) -> Table:
    """Create an empty table with a column of names and a column of values."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), title=title, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    return table
