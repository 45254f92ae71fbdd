"""Read the sets of VQA2 (github.com/Q-Future/Visual-Question-Answering-for-Video-Quality-Assessment).

Their fields are
    OmniVQA-FG (multiple choice), JSON or a table:   Video_name, Question, Answer, Correct_choice
    VQA2's scoring lists, JSON:                      img_path or video_path; level, mos or gt_score

An entry of a scoring list becomes a choice among five levels. If the list has no field `level`, the range of
its scores is divided into five equal parts, one per level, as was done for the published levels.
"""

import re
from collections.abc import Sequence
from pathlib import PurePath

from evaluation.quiz.entries import Entry
from evaluation.quiz.item import LETTERS, LEVELS, QuizItem, level_item

LEVEL_QUESTION = "How would you rate the quality of this video?"
_PATHS = ("img_path", "video_path")
_SCORES = ("mos", "gt_score")
_LETTERED = re.compile(r"(?:^|[\n;,])\s*\(?([A-Z])[.:)]\s*(.+?)\s*(?=[\n;,]\s*\(?[A-Z][.:)]|$)", re.DOTALL)


def read_omnivqa(entry: Entry) -> QuizItem:
    """Convert an entry to a question. Raises QuizError.

    `Answer` holds the options, as a list or as lines `A. …`, `B. …`. `Correct_choice` is a letter or the text
    of an option.
    """
    options = entry.options("Answer", _options(entry))
    correct = entry.text("Correct_choice")
    texts = [option.casefold() for option in options]
    if correct.casefold() in texts:
        letter = LETTERS[texts.index(correct.casefold())]
    else:
        letter = entry.letter("Correct_choice", len(options))
    return QuizItem(
        item_id=entry.item_id,
        videos=(entry.video("Video_name", entry.text("Video_name")),),
        question=entry.text("Question"),
        options=options,
        correct=letter,
        rule="choice",
        question_type=entry.text("Type") if entry.has("Type") else "choice",
    )


def read_levels(entries: Sequence[Entry]) -> list[QuizItem]:
    """Convert all entries of a scoring list to questions. Raises QuizError."""
    named = [entry.has("level") for entry in entries]
    if all(named):
        levels = [_level(entry) for entry in entries]
    elif any(named):
        bare = entries[named.index(False)]
        raise bare.error("level", "is missing, but other entries have one: give all entries a level, or none")
    else:
        levels = _equal_parts([entry.number_of(entry.first_of(*_SCORES)) for entry in entries])
    return [_level_item(entry, level) for entry, level in zip(entries, levels, strict=True)]


def _options(entry: Entry) -> tuple[str, ...]:
    given = entry.value("Answer")
    if isinstance(given, list) or str(given).lstrip().startswith("["):
        return tuple(_without_letter(option) for option in entry.texts("Answer"))
    return tuple(text for _, text in _LETTERED.findall(entry.text("Answer")))


def _without_letter(option: str) -> str:
    return re.sub(r"^\(?[A-Z][.:)]\s+", "", option)


def _level(entry: Entry) -> int:
    """The level of an entry, from 0 (bad) to 4 (excellent)."""
    given = entry.value("level")
    if isinstance(given, str) and given.strip().lower() in LEVELS:
        return LEVELS.index(given.strip().lower())
    number = entry.number_of("level")
    if number not in range(1, len(LEVELS) + 2):
        raise entry.error("level", f"is {given}: levels range from 1 ({LEVELS[0]}) to 5 ({LEVELS[-1]})")
    return min(int(number), len(LEVELS)) - 1  # the published lists use 6 for the best video


def _equal_parts(scores: list[float]) -> list[int]:
    low, high = min(scores), max(scores)
    width = (high - low) / len(LEVELS) or 1.0
    return [min(int((score - low) / width), len(LEVELS) - 1) for score in scores]


def _level_item(entry: Entry, level: int) -> QuizItem:
    field = entry.first_of(*_PATHS)
    name = entry.text(field)
    path = name if PurePath(name).suffix else f"{name}.mp4"  # the YouTube-UGC list omits the suffix
    return level_item(entry.item_id, entry.video(field, path), LEVEL_QUESTION, level)
