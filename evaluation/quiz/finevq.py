"""Read FineVQ (github.com/IntMeGroup/FineVQ), questions about the videos of FineVD, from JSON lines:

    {"video": name, "conversations": [{"from": "human", "value": question}, {"from": "ai", "value": answer}]}

A multiple-choice question lists its options as `{A:[None], B:[lagging]}`, and its answer is a letter. A
yes-or-no question names a distortion. A rating question has a further field `mos`, and its answer contains a
quality level.
"""

import re
from typing import Any

from evaluation.quiz.entries import Entry
from evaluation.quiz.item import LETTERS, LEVELS, QuizItem, level_item

_OPTION = r"[A-Z]\s*:\s*\[[^\]]*\]"
_OPTIONS = re.compile(rf"\{{\s*({_OPTION}(?:\s*[,，]\s*{_OPTION})*)\s*\}}")
_YES_NO = re.compile(r"\[(Yes|No)\]", re.IGNORECASE)
_DISTORTION = re.compile(r"\bno (.+?) in the video", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"<\|?(?:video|image)\|?>\s*")
_ANSWERERS = ("ai", "gpt", "assistant")


def read_finevq(entry: Entry) -> QuizItem:
    """Convert an entry to a question. Raises QuizError."""
    question, answer = _turns(entry)
    item_id, videos = entry.item_id, (entry.video("video", entry.text("video")),)
    if entry.has("mos"):
        named = [level for level, word in enumerate(LEVELS) if re.search(rf"\b{word}\b", answer.lower())]
        if len(named) != 1:
            raise entry.error("conversations", f"the answer '{answer}' names {len(named)} levels, not one")
        return level_item(item_id, videos[0], question, named[0])
    if block := _OPTIONS.search(question):
        return _choice(entry, item_id, videos, question, block, answer)
    if len(set(map(str.lower, _YES_NO.findall(question)))) == 2:
        if answer.lower() not in ("yes", "no"):
            raise entry.error("conversations", f"the answer is '{answer}', not Yes or No")
        distortion = _DISTORTION.search(question)
        return QuizItem(
            item_id=item_id,
            videos=videos,
            question=question,
            options=("Yes", "No"),
            correct=answer,
            rule="text",
            question_type="yes-or-no",
            concerns=(distortion[1].lower(),) if distortion else (),
        )
    return QuizItem(item_id, videos, question, (), answer, "text", "text")


def _choice(
    entry: Entry, item_id: str, videos: tuple[str, ...], question: str, block: re.Match[str], answer: str
) -> QuizItem:
    letters = re.findall(r"([A-Z])\s*:\s*\[", block[1])
    options = tuple(option.strip() for option in re.findall(r"\[([^\]]*)\]", block[1]))
    entry.options("conversations", options)
    if letters != list(LETTERS[: len(letters)]):
        raise entry.error("conversations", f"the options are lettered {', '.join(letters)}, not in order")
    letter = answer.strip(" .:()[]").upper()
    if letter not in letters:
        raise entry.error("conversations", f"the answer is '{answer}', not one of {', '.join(letters)}")
    # Drop the text after the options, which asks for only the letter: QuizItem's prompt has its own request.
    stem = question[: block.start()].strip().rstrip(":")
    question_type = "dimension" if "dimension" in stem.lower() else "distortion type"
    return QuizItem(item_id, videos, f"{stem}:", options, letter, "choice", question_type)


def _turns(entry: Entry) -> tuple[str, str]:
    """The first question in `conversations`, and its answer."""
    turns: Any = entry.value("conversations")
    said: dict[str, str] = {}
    for turn in turns if isinstance(turns, list) else []:
        if isinstance(turn, dict) and isinstance(turn.get("value"), str):
            said.setdefault(
                "ai" if turn.get("from") in _ANSWERERS else str(turn.get("from")), turn["value"].strip()
            )
    for role, what in (("human", "question"), ("ai", "answer")):
        if not said.get(role):
            raise entry.error(
                "conversations", f'has no {what}; add a turn {{"from": "{role}", "value": text}}'
            )
    return _PLACEHOLDER.sub("", said["human"]), said["ai"]
