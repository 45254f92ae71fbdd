"""The common form of a quiz question, and its prompt."""

from dataclasses import dataclass
from typing import Literal

from data.prompt import ANSWER_FORMAT
from data.tables import TableError

LEVELS = ("bad", "poor", "fair", "good", "excellent")
"""The quality levels of ITU-R BT.500, worst first."""
_BEST_FIRST = LEVELS[::-1]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Rule = Literal["first_letter", "choice", "text", "judged"]
"""How an answer is graded: by its first letter, by the letter or text of an option, by its text, or by an LLM
judge. evaluation/quiz/grading.py implements the first three."""


class QuizError(TableError):
    """A quiz that cannot be used. The message names file, entry, field and fix."""


@dataclass(frozen=True, slots=True)
class QuizItem:
    """A question about one or two videos.

    `videos` are absolute paths. `correct` is the letter of the right option, or its text if the rule is
    `text`. Open questions (rule `judged`) have a `reference` answer instead. `concerns`, `video_type` and
    `context` are categories that the quiz set assigns to the question; empty if it assigns none.
    """

    item_id: str
    videos: tuple[str, ...]
    question: str
    options: tuple[str, ...]
    correct: str
    rule: Rule
    question_type: str
    concerns: tuple[str, ...] = ()
    video_type: str = ""
    context: str = ""
    reference: str = ""

    @property
    def letters(self) -> str:
        """The letters of the options."""
        return LETTERS[: len(self.options)]

    @property
    def chance(self) -> float | None:
        """Probability that a random guess is right; None without options."""
        return 1 / len(self.options) if self.options else None

    @property
    def prompt(self) -> str:
        """The question, its options, and the format of the answer."""
        if self.rule == "judged":
            return open_prompt(self.question)
        if self.rule == "text":
            wanted = " or ".join(self.options) or "the answer, in a word or two,"
            return f"{self.question}\n{ANSWER_FORMAT.format(f'only {wanted}')}"
        lettered = [f"{letter}. {option}" for letter, option in zip(self.letters, self.options, strict=True)]
        wanted = "only the letter of the correct option"
        return "\n".join([self.question, *lettered, ANSWER_FORMAT.format(wanted)])


def open_prompt(question: str) -> str:
    """The prompt of an open question."""
    return f"{question}\n{ANSWER_FORMAT.format('the answer')}"


def level_item(item_id: str, video: str, question: str, level: int) -> QuizItem:
    """Build a question for the quality level of a video. `level` is the right answer, from 0 (bad) to 4."""
    return QuizItem(
        item_id=item_id,
        videos=(video,),
        question=question,
        options=_BEST_FIRST,
        correct=LETTERS[_BEST_FIRST.index(LEVELS[level])],
        rule="choice",
        question_type="level",
    )
