"""Print the results of `launch.py evaluate` and `launch.py quiz` as tables in the terminal."""

import math
from collections.abc import Iterator, Mapping

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.terminal import print_reasons
from evaluation.comparison import Means, Report, SetResult, number, report_notes
from evaluation.quiz.results import ALL, Accuracy, QuizResults
from evaluation.statistics.metrics import CORRELATIONS, NAMES, Scale

_LISTED_FAILURES = 20


def print_report(console: Console, report: Report) -> None:
    """Print one table per model, the comparison of two models, and notes on undefined or doubtful figures."""
    for model in report.means:
        console.print(_model_table(model, report))
    if report.differences:
        console.print(_comparison(report))
    notes = list(report_notes(report))
    if notes:
        table = _table("Notes", "model", "set", "what", "note")
        for row in notes:
            table.add_row(*map(escape, row))
        console.print(table)


def _table(title: str, *columns: str, caption: str | None = None) -> Table:
    return Table(
        *columns, title=escape(title), title_justify="left", caption=caption, caption_justify="left",
        box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False,
    )  # fmt: skip


def _model_table(model: str, report: Report) -> Table:
    caption = "Second lines: 95 % interval over sources; for a set, its scale, which RMSE uses."
    if len(report.results) > 1:
        caption += " The weighted mean weights sets by n."
    table = _table(f"{model}: agreement with MOS", caption=caption)
    table.add_column("set", overflow="fold")
    table.add_column("n", justify="right")
    for shown in NAMES.values():
        table.add_column(shown.replace(" ", "\n", 1), justify="right")
    table.add_column("un-\nparsed", justify="right")
    table.add_column("failed", justify="right")
    for by_model in report.results.values():
        table.add_row(*_set_row(by_model[model]))
    if len(report.results) > 1:
        table.add_section()
        for means in report.means[model]:
            table.add_row(*_means_row(means))
    return table


def _set_row(result: SetResult) -> Iterator[str]:
    figures = result.figures
    yield f"{escape(result.of.name)}\n[dim]{_range(result.of.scale)}[/]"
    yield str(figures.n)
    for name in NAMES:
        yield _figure(figures.values[name], figures.intervals[name])
    yield "–" if math.isnan(result.unparsed_share) else f"{result.unparsed_share:.1%}"
    yield str(len(result.failures))


def _means_row(means: Means) -> Iterator[str]:
    yield means.name
    yield str(means.n)
    for name in NAMES:
        yield _figure(means.of[name].value, means.of[name].interval) if name in means.of else ""


def _comparison(report: Report) -> Table:
    first, second = report.means
    table = _table(f"{first} minus {second}, on the videos that both score", "set", "n", "figure")
    for column in (escape(first), escape(second), "difference", "paired 95 %", "excludes 0"):
        table.add_column(column, justify="right", overflow="fold")
    for name, differences in report.differences.items():
        n, values = _of_both(report, name)
        for figure, gain in differences.items():
            is_first_row = figure == CORRELATIONS[0]
            table.add_row(
                name if is_first_row else "",
                str(n) if is_first_row else "",
                NAMES[figure],
                *(number(of_model[figure]) for of_model in values),
                "–" if math.isnan(gain.value) else f"{gain.value:+.3f}",
                "" if math.isnan(gain.low) else f"{gain.low:+.3f} to {gain.high:+.3f}",
                "–" if math.isnan(gain.low) else ("yes" if gain.excludes_zero else "no"),
            )
        table.add_section()
    return table


def _of_both(report: Report, name: str) -> tuple[int, list[Mapping[str, float]]]:
    """Return (number of videos, each model's figures) of the set or mean called `name`."""
    if name in report.results:
        figures = [result.figures for result in report.results[name].values()]
        return figures[0].n, [f.values for f in figures]
    means = [means for of_model in report.means.values() for means in of_model if means.name == name]
    return means[0].n, [{figure: mean.value for figure, mean in m.of.items()} for m in means]


def _figure(value: float, ends: tuple[float, float]) -> str:
    return f"{number(value)}\n[dim]{_interval(*ends)}[/]"


def _interval(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"{low:.2f} to {high:.2f}"


def _range(scale: Scale) -> str:
    return f"{scale.low:g}–{scale.high:g}"


def print_results(console: Console, title: str, results: QuizResults) -> None:
    """Print the results of a quiz: accuracy, open questions, unanswered questions."""
    if results.accuracy:
        console.print(_accuracy_table(title, results.accuracy))
    shown = results.open_answers
    if shown.n:
        grade = "not graded" if shown.mean is None else f"mean {shown.mean:.1%} of {shown.judged} graded"
        console.print(f"Open questions: {shown.n}, answered {shown.answered}, {grade}", highlight=False)
    print_reasons(console, "unanswered", results.unanswered, _LISTED_FAILURES, style="yellow")


def _accuracy_table(title: str, accuracy: Mapping[tuple[str, str], Accuracy]) -> Table:
    caption = "Unparsed and unanswered questions count as wrong. Intervals are Wilson's."
    table = _table(title, caption=caption)
    table.add_column("questions", overflow="fold")
    for name in ("n", "accuracy", "95 % interval", "chance", "un-\nparsed", "un-\nanswered"):
        table.add_column(name, justify="right", no_wrap=True)
    facet_before = ALL[0]
    for (facet, value), figures in sorted(accuracy.items(), key=lambda row: (row[0] != ALL, row[0])):
        if facet != facet_before:
            table.add_section()
            facet_before = facet
        table.add_row(
            escape(f"{facet}: {value}") if value else facet,
            str(figures.n),
            f"{figures.value:.1%}",
            f"{figures.low:.1%} to {figures.high:.1%}",
            "–" if figures.chance is None else f"{figures.chance:.1%}",
            str(figures.unparsed),
            str(figures.unanswered),
        )
    return table
