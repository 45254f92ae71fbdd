"""One question of a quiz, whatever set it is from, and how it is put to a model."""

from dataclasses import dataclass
from typing import Literal

from data.prompt import ANSWER_FORMAT
from data.tables import TableError

LEVELS = ("bad", "poor", "fair", "good", "excellent")
"""Of ITU-R BT.500."""
_BEST_FIRST = LEVELS[::-1]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Rule = Literal["first_letter", "choice", "text", "judged"]
"""What makes an answer right: its first letter, the letter or the text of an option, the text alone, or what
a judge says of it. evaluation/quiz/grading.py applies them."""


class QuizError(TableError):
    """A quiz that cannot be used; names file, entry, field and cure."""


@dataclass(frozen=True, slots=True)
class QuizItem:
    """A question about one video, or about two.

    `videos` are absolute paths. `correct` is the letter of the right option, or its text where the rule is
    `text`; open questions (`judged`) have a `reference` instead. `concerns`, `video_type` and `context` are
    the set's own words, empty where it has none.
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
        """The options' letters, in their order."""
        return LETTERS[: len(self.options)]

    @property
    def chance(self) -> float | None:
        """Probability that a guess among the options is right; None without options."""
        return 1 / len(self.options) if self.options else None

    @property
    def prompt(self) -> str:
        """The question, its options, and how to answer."""
        if self.rule == "judged":
            return open_prompt(self.question)
        if self.rule == "text":
            wanted = " or ".join(self.options) or "the answer, in a word or two,"
            return f"{self.question}\n{ANSWER_FORMAT.format(f'only {wanted}')}"
        lettered = [f"{letter}. {option}" for letter, option in zip(self.letters, self.options, strict=True)]
        wanted = "only the letter of the correct option"
        return "\n".join([self.question, *lettered, ANSWER_FORMAT.format(wanted)])


def open_prompt(question: str) -> str:
    """A question that may be answered in any words."""
    return f"{question}\n{ANSWER_FORMAT.format('the answer')}"


def level_item(item_id: str, video: str, question: str, level: int) -> QuizItem:
    """`level` is from 0 (bad) to 4."""
    return QuizItem(
        item_id=item_id,
        videos=(video,),
        question=question,
        options=_BEST_FIRST,
        correct=LETTERS[_BEST_FIRST.index(LEVELS[level])],
        rule="choice",
        question_type="level",
    )
