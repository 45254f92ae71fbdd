"""The figures of `launch.py quiz`, and their form in results.json."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evaluation.quiz.grading import grade_choice
from evaluation.quiz.item import QuizItem
from evaluation.quiz.llm_judge import HIGHEST_GRADE
from evaluation.statistics.accuracy import CONFIDENCE, Accuracy, Mark, accuracies


@dataclass(frozen=True, slots=True)
class OpenAnswers:
    """`mean` is the mean grade of the `judged` answers, from 0 to 1; None if no LLM judge was asked. `judges`
    are the models that graded."""

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
    """Compute all figures from the texts of `predictions`, one row per item, and the LLM judge's grades."""
    rows = [predictions[item.item_id] for item in items]
    closed = [(item, row) for item, row in zip(items, rows, strict=True) if item.rule != "judged"]
    marks = [Mark(item, None if row["failure"] else grade_choice(item, row["text"])) for item, row in closed]
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
    """The results as JSON values."""
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
