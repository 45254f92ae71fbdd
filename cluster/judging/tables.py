"""The figures for people: tables in the terminal."""

import math
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cluster.judging.results import Average, Report, SetResult
from rewards.figures import CORRELATIONS, NAMES, Scale


def print_report(console: Console, report: Report) -> None:
    """A table for each model, the comparison if there are two, and what there is to say of single figures."""
    for model in report.averages:
        console.print(_model_table(model, report))
    if report.differences:
        console.print(_comparison(report))
    notes = list(report_notes(report))
    if notes:
        table = _table("Notes", "model", "set", "what", "note")
        for row in notes:
            table.add_row(*map(escape, row))
        console.print(table)


def report_notes(report: Report) -> Iterator[tuple[str, str, str, str]]:
    """(model, set, what, note) of everything that a figure alone does not tell."""
    for name, by_model in report.results.items():
        for model, result in by_model.items():
            for what, note in result.figures.notes.items():
                yield model, name, what, note
            if result.failures:
                first, reason = next(iter(result.failures.items()))
                yield model, name, "failed", f"{len(result.failures)} videos, the first is {first}: {reason}"
    if len(report.results) == 1:
        return
    for model, means in report.averages.items():
        for missing in sorted({tuple(missing) for missing in means[0].missing.values() if missing}):
            figures = [NAMES[name] for name in CORRELATIONS if tuple(means[0].missing[name]) == missing]
            yield model, "means", ", ".join(figures), f"leave out {', '.join(missing)}, which have none"


def number(value: float, digits: int = 3) -> str:
    """A figure as it is printed; a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _table(title: str, *columns: str) -> Table:
    return Table(
        *columns, title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, collapse_padding=True,
        pad_edge=False,
    )  # fmt: skip


def _model_table(model: str, report: Report) -> Table:
    table = _table(f"{model}: agreement with MOS")
    table.add_column("set", overflow="fold")
    table.add_column("n", justify="right")
    for shown in NAMES.values():
        table.add_column(shown.replace(" ", "\n", 1), justify="right")
    table.add_column("un-\nparsed", justify="right")
    table.add_column("failed", justify="right")
    for by_model in report.results.values():
        table.add_row(*_set_row(by_model[model]))
    table.caption = "Below a correlation: its 95 % interval over sources. Below an RMSE: the set's own scale."
    if len(report.results) > 1:
        table.add_section()
        for mean in report.averages[model]:
            table.add_row(*_average_row(mean))
        table.caption += " The weighted mean is by n."
    table.caption_justify = "left"
    return table


def _set_row(result: SetResult) -> Iterator[str]:
    figures = result.figures
    yield result.of.name
    yield str(figures.n)
    for name in NAMES:
        below = _interval(*figures.intervals[name]) if name in CORRELATIONS else _range(result.of.scale)
        yield f"{number(figures.values[name])}\n[dim]{below}[/]"
    yield "–" if math.isnan(result.unparsed_share) else f"{result.unparsed_share:.1%}"
    yield str(len(result.failures))


def _average_row(mean: Average) -> Iterator[str]:
    yield "weighted mean" if mean.weighted else "plain mean"
    yield str(mean.n)
    for name in NAMES:
        yield number(mean.values[name]) if name in CORRELATIONS else ""


def _comparison(report: Report) -> Table:
    first, second = report.averages
    table = _table(f"{first} minus {second}, on the videos that both score", "set", "n", "figure")
    for column in (escape(first), escape(second), "difference", "paired 95 %", "excludes 0"):
        table.add_column(column, justify="right", overflow="fold")
    for name, differences in report.differences.items():
        results = report.results[name]
        for figure, gain in differences.items():
            is_first_row = figure == CORRELATIONS[0]
            table.add_row(
                name if is_first_row else "",
                str(results[first].figures.n) if is_first_row else "",
                NAMES[figure],
                *(number(results[model].figures.values[figure]) for model in (first, second)),
                "–" if math.isnan(gain.value) else f"{gain.value:+.3f}",
                "" if math.isnan(gain.low) else f"{gain.low:+.3f} to {gain.high:+.3f}",
                "–" if math.isnan(gain.low) else ("yes" if gain.excludes_zero else "no"),
            )
        table.add_section()
    return table


def _interval(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"{low:.2f} to {high:.2f}"


def _range(scale: Scale) -> str:
    return f"{scale.low:g}–{scale.high:g}"
