"""Compute the results of `launch.py quiz`: accuracy, in total and by kind of question, and mean grades."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy.stats import binomtest

from evaluation.quiz.grading import Verdict, grade_choice
from evaluation.quiz.item import QuizItem
from evaluation.quiz.llm_judge import HIGHEST_GRADE

CONFIDENCE = 0.95
ALL = ("all", "")


@dataclass(frozen=True, slots=True)
class Mark:
    """A question and the verdict on its answer. `verdict` is None if there is no answer (a bad video)."""

    item: QuizItem
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The share of questions answered correctly: `right` of `n`.

    `unparsed` and `unanswered` questions count as wrong. `low` and `high` are the 95 % Wilson interval.
    `chance` is the accuracy of random guessing; None if any question has no options.
    """

    n: int
    right: int
    unparsed: int
    unanswered: int
    low: float
    high: float
    chance: float | None

    @property
    def value(self) -> float:
        return self.right / self.n


def accuracies(marks: Iterable[Mark]) -> dict[tuple[str, str], Accuracy]:
    """Compute the accuracy of all questions (key ALL) and of each subset (facet, value).

    The facets are question type, concern, video type and context. A question with two concerns counts in both
    subsets.
    """
    groups: dict[tuple[str, str], list[Mark]] = defaultdict(list)
    for mark in marks:
        for key in _keys(mark.item):
            groups[key].append(mark)
    return {key: _accuracy(group) for key, group in groups.items()}


def _keys(item: QuizItem) -> Iterator[tuple[str, str]]:
    yield ALL
    yield "question type", item.question_type
    for concern in item.concerns:
        yield "concern", concern
    if item.video_type:
        yield "video type", item.video_type
    if item.context:
        yield "context", item.context


def _accuracy(marks: list[Mark]) -> Accuracy:
    right = sum(mark.verdict is not None and mark.verdict.right for mark in marks)
    interval = binomtest(right, len(marks)).proportion_ci(CONFIDENCE, method="wilson")
    chances = [mark.item.chance for mark in marks]
    return Accuracy(
        n=len(marks),
        right=right,
        unparsed=sum(mark.verdict is not None and mark.verdict.said is None for mark in marks),
        unanswered=sum(mark.verdict is None for mark in marks),
        low=float(interval.low),
        high=float(interval.high),
        chance=None if None in chances else math.fsum(c or 0.0 for c in chances) / len(chances),
    )


@dataclass(frozen=True, slots=True)
class OpenAnswers:
    """The grades of open answers. `mean` is the mean grade of the `judged` answers, from 0 to 1; None if no
    answer was graded. `judges` are the models that graded."""

    n: int
    answered: int
    judged: int
    mean: float | None
    judges: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QuizResults:
    """The results of a quiz. `accuracy` is indexed by (facet, value), see `accuracies`. `unanswered` lists
    (id, reason) of the questions without an answer."""

    questions: int
    accuracy: Mapping[tuple[str, str], Accuracy]
    open_answers: OpenAnswers
    unanswered: Sequence[tuple[str, str]]


def results_of(
    items: Sequence[QuizItem],
    predictions: Mapping[str, Mapping[str, Any]],
    judgements: Mapping[str, Mapping[str, Any]],
) -> QuizResults:
    """Compute all results from the rows of predictions, one per item, and of the LLM judge's grades."""
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
    """Convert the results to JSON values."""
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
