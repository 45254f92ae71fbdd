"""Rating as a choice among five levels (ITU-R BT.500)."""

from evaluation.quiz.item import LETTERS, QuizItem

LEVELS = ("bad", "poor", "fair", "good", "excellent")
_BEST_FIRST = LEVELS[::-1]


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
