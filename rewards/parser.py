"""Parse the score of an answer. An answer without exactly one valid score has no score."""

import re
from dataclasses import dataclass

LOWEST, HIGHEST = 1.0, 5.0

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_NUMBER = re.compile(r"[0-9]{1,3}(?:\.([0-9]+))?")


@dataclass(frozen=True, slots=True)
class Parsed:
    """A score from 1 to 5, and the number of its decimals in the text."""

    score: float
    decimals: int


def parse_score(text: str) -> Parsed | None:
    """Parse the score of an answer; returns None if it does not parse.

    There must be exactly one `<answer>`, with exactly one plain number from 1 to 5. "between 2 and 4", "7",
    "3,5" and "3.5/5" do not parse: guessing a score would reward something that the model did not say.
    """
    answers = _ANSWER.findall(text)
    if len(answers) != 1:
        return None
    number = _NUMBER.fullmatch(answers[0].strip())
    if number is None or not LOWEST <= float(number[0]) <= HIGHEST:
        return None
    return Parsed(float(number[0]), len(number[1] or ""))
