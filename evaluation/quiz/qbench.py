"""Read Q-Bench-Video (github.com/Q-Future/Q-Bench-Video), a JSON list of objects with the fields

    video_name, question, answers[], video_type, question_type, context, correct_choice

`question_type` is what/how, yes-or-no or open_ended. A pair of videos is named `A_cat_B`; the published code
writes `a.mp4_cat_b.mp4.mp4`, with a redundant suffix. The released file has no field for the quality concern
(issue 3 of that repository). Files that have one, such as `concern`, are supported.
"""

import re
from pathlib import PurePath

from evaluation.quiz.entries import Entry
from evaluation.quiz.item import QuizItem

_TYPES = {"what/how": "what/how", "yes-or-no": "yes-or-no", "open": "open-ended"}
_CONCERNS = ("concern", "concerns", "quality_concern", "quality_concerns")
_PAIR = "_cat_"


def read_qbench(entry: Entry) -> QuizItem:
    """Convert an entry to a question. Raises QuizError."""
    question_type = _question_type(entry)
    is_open = question_type == "open-ended"
    options = () if is_open else entry.options("answers", entry.texts("answers"))
    return QuizItem(
        item_id=entry.item_id,
        videos=_videos(entry),
        question=entry.text("question"),
        options=options,
        correct="" if is_open else entry.letter("correct_choice", len(options)),
        rule="judged" if is_open else "first_letter",
        question_type=question_type,
        concerns=_concerns(entry),
        video_type=entry.text("video_type") if entry.has("video_type") else "",
        context=entry.text("context") if entry.has("context") else "",
        reference=_reference(entry) if is_open else "",
    )


def _question_type(entry: Entry) -> str:
    given = entry.text("question_type")
    for part, question_type in _TYPES.items():
        if part in given.lower():
            return question_type
    raise entry.error("question_type", f"is '{given}': use one of {', '.join(_TYPES.values())}")


def _videos(entry: Entry) -> tuple[str, ...]:
    name = entry.text("video_name")
    names = name.split(_PAIR)
    if len(names) == 1:
        return (entry.video("video_name", name),)
    if len(names) > 2 or not all(names):
        raise entry.error("video_name", f"'{name}' joins {len(names)} names by '{_PAIR}': a pair has two")
    first, second = names
    suffixes = PurePath(second).suffixes
    if len(suffixes) >= 2 and suffixes[-1] == suffixes[-2]:
        second = second.removesuffix(suffixes[-1])
    if not PurePath(first).suffix:
        first += PurePath(second).suffix
    return entry.video("video_name", first), entry.video("video_name", second)


def _concerns(entry: Entry) -> tuple[str, ...]:
    name = next((name for name in _CONCERNS if entry.has(name)), None)
    if name is None:
        return ()
    given = entry.value(name)
    texts = entry.texts(name) if isinstance(given, list) else re.split(r"[,;/]", entry.text(name))
    return tuple(dict.fromkeys(text.strip() for text in texts))


def _reference(entry: Entry) -> str:
    """The reference answer of an open question. Its field is undocumented: use `answers`, or `correct_choice`
    if that is empty."""
    if not entry.has("answers"):
        return entry.text("correct_choice")
    return (
        " ".join(entry.texts("answers"))
        if isinstance(entry.value("answers"), list)
        else entry.text("answers")
    )
