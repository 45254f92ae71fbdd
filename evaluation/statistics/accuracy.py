"""Accuracy of `launch.py quiz`, in total and by kind of question, with intervals."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from scipy.stats import binomtest

from evaluation.quiz.grading import Verdict
from evaluation.quiz.item import QuizItem

CONFIDENCE = 0.95
ALL = ("all", "")


@dataclass(frozen=True, slots=True)
class Mark:
    """A question and the verdict on its answer; None if it was not answered (a bad video)."""

    item: QuizItem
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class Accuracy:
    """`right` of `n` questions. `unparsed` and `unanswered` questions count as wrong. `low` and `high` are
    the 95 % Wilson interval. `chance` is the accuracy of random guessing, None if a question has no
    options."""

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
    """Accuracy of all questions (key ALL) and of each (facet, value): question type, concern, video type and
    context. A question with two concerns counts for both."""
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
