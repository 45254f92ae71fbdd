"""Grade the answers of `launch.py quiz` by the rule of each question.

An answer that names no option, or several options, is wrong and counted as unparsed.
"""

import re
from dataclasses import dataclass

from evaluation.quiz.item import QuizItem

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_TAG = re.compile(r"</?(?:think|answer)>")
_LETTER_AND_TEXT = re.compile(r"\W*([A-Za-z])\s*[.:)\]]+\s*(.+)", re.DOTALL)
_AROUND_WORDS = " \t\r\n.,:;!?()[]{}\"'*`"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The grade of one answer. `said` is the letter of the option that the answer names, or the answer's text
    under the rule `text`. It is None if the answer does not parse; `right` is then False."""

    said: str | None
    right: bool


def final_answer(text: str) -> str | None:
    """The text inside the only `<answer>`; without one, the text after `</think>`.

    None if there are several `<answer>`, an unclosed tag, or no text.
    """
    answers = _ANSWER.findall(text)
    if len(answers) > 1:
        return None
    final = answers[0] if answers else text.rpartition("</think>")[2]
    return None if _TAG.search(final) else final.strip() or None


def grade_choice(item: QuizItem, text: str) -> Verdict:
    """Grade the whole text of a model's answer by the item's rule:

    first_letter   the first character of the answer is the letter (the rule of Q-Bench-Video)
    choice         the answer is the letter, the option's text, or both together
    text           the answer is the option's text, ignoring case, surrounding punctuation and spaces

    Raises:
        ValueError: for an open question, which needs an LLM judge.
    """
    if item.rule == "judged":
        raise ValueError(f"{item.item_id} is an open question: no rule grades it")
    answer = final_answer(text)
    if answer is None:
        return Verdict(None, False)
    if item.rule == "text":
        said = normalised(answer)
        if not said or (item.options and said not in map(normalised, item.options)):
            return Verdict(None, False)
        return Verdict(said, said == normalised(item.correct))
    letter = answer[0] if item.rule == "first_letter" else _named_option(item, answer)
    if letter is None or letter not in item.letters:
        return Verdict(None, False)
    return Verdict(letter, letter == item.correct)


def normalised(text: str) -> str:
    """Convert text to lower case, with single spaces and without surrounding punctuation."""
    return " ".join(text.casefold().strip(_AROUND_WORDS).split())


def _named_option(item: QuizItem, answer: str) -> str | None:
    said = normalised(answer)
    if len(said) == 1 and said.upper() in item.letters:
        return said.upper()
    texts = [normalised(option) for option in item.options]
    if texts.count(said) == 1:
        return item.letters[texts.index(said)]
    both = _LETTER_AND_TEXT.fullmatch(answer)
    if both is None or both[1].upper() not in item.letters:
        return None
    letter = both[1].upper()
    return letter if normalised(both[2]) == texts[item.letters.index(letter)] else None
