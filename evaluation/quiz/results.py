"""The figures of a quiz: as JSON, and as a table in the terminal."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evaluation.quiz.grading import judge_choice
from evaluation.quiz.item import QuizItem
from evaluation.quiz.llm_judge import HIGHEST_GRADE
from evaluation.statistics.accuracy import ALL, CONFIDENCE, Accuracy, Mark, accuracies

_LISTED_FAILURES = 20


@dataclass(frozen=True, slots=True)
class OpenAnswers:
    """`mean` is that of the `judged` answers, from 0 to 1; None before a judge was asked. `judges` are the
    models that did."""

    n: int
    answered: int
    judged: int
    mean: float | None
    judges: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QuizResults:
    """`accuracy` is by (facet, value), see `statistics.accuracy`; `unanswered` are (id, reason)."""

    questions: int
    accuracy: Mapping[tuple[str, str], Accuracy]
    open_answers: OpenAnswers
    unanswered: Sequence[tuple[str, str]]


def results_of(
    items: Sequence[QuizItem],
    predictions: Mapping[str, Mapping[str, Any]],
    judgements: Mapping[str, Mapping[str, Any]],
) -> QuizResults:
    """Every figure comes from the texts of `predictions`, a row for each item, and from a judge's grades."""
    rows = [predictions[item.item_id] for item in items]
    closed = [(item, row) for item, row in zip(items, rows, strict=True) if item.rule != "judged"]
    marks = [Mark(item, None if row["failure"] else judge_choice(item, row["text"])) for item, row in closed]
    open_rows = [row for item, row in zip(items, rows, strict=True) if item.rule == "judged"]
    judged = [judgements[row["id"]] for row in open_rows if row["id"] in judgements]
    scores = [math.fsum(row["grades"]) / len(row["grades"]) / HIGHEST_GRADE for row in judged]
    return QuizResults(
        questions=len(items),
        accuracy=accuracies(marks),
        open_answers=OpenAnswers(
            n=len(open_rows),
            answered=sum(not row["failure"] for row in open_rows),
            judged=len(scores),
            mean=math.fsum(scores) / len(scores) if scores else None,
            judges=tuple(sorted({row["judge"] for row in judged})),
        ),
        unanswered=[(row["id"], row["failure"]) for row in rows if row["failure"]],
    )


def as_json(results: QuizResults) -> dict[str, Any]:
    return {
        "questions": results.questions,
        "interval": f"Wilson, {CONFIDENCE:.0%}",
        "accuracy": [
            {
                "facet": facet,
                "value": value,
                "n": accuracy.n,
                "right": accuracy.right,
                "unparsed": accuracy.unparsed,
                "unanswered": accuracy.unanswered,
                "accuracy": accuracy.value,
                "low": accuracy.low,
                "high": accuracy.high,
                "chance": accuracy.chance,
            }
            for (facet, value), accuracy in results.accuracy.items()
        ],
        "open": asdict(results.open_answers),
        "unanswered": [{"id": item_id, "reason": reason} for item_id, reason in results.unanswered],
    }


def print_results(console: Console, title: str, results: QuizResults) -> None:
    if results.accuracy:
        console.print(_table(title, results.accuracy))
    shown = results.open_answers
    if shown.n:
        grade = "not judged" if shown.mean is None else f"mean {shown.mean:.1%} of {shown.judged} judged"
        console.print(f"Open questions: {shown.n}, answered {shown.answered}, {grade}", highlight=False)
    if results.unanswered:
        console.print(f"[yellow]{len(results.unanswered)} unanswered[/]", highlight=False)
    for item_id, reason in results.unanswered[:_LISTED_FAILURES]:
        console.print(f"  {item_id}: {reason}", highlight=False, markup=False, soft_wrap=True)
    if len(results.unanswered) > _LISTED_FAILURES:
        console.print(f"  and {len(results.unanswered) - _LISTED_FAILURES} more", highlight=False)


def _table(title: str, accuracy: Mapping[tuple[str, str], Accuracy]) -> Table:
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD)
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
    table.caption = "Unparsed and unanswered questions count as wrong. Intervals are Wilson's."
    table.caption_justify = "left"
    return table
