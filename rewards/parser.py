"""Reading an answer: one score and nothing else, or no score at all."""

import re
from dataclasses import dataclass

LOWEST, HIGHEST = 1.0, 5.0

_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_NUMBER = re.compile(r"[0-9]{1,3}(?:\.([0-9]+))?")


@dataclass(frozen=True, slots=True)
class Parsed:
    """A score on the scale of 1 to 5, and the number of decimals that the text gave it."""

    score: float
    decimals: int


def parse_score(text: str) -> Parsed | None:
    """The score of an answer, or None.

    Exactly one `<answer>` must hold exactly one plain number from 1 to 5. "between 2 and 4", "7", "3,5" and
    "3.5/5" are no scores: to guess would reward what the model did not say.
    """
    answers = _ANSWER.findall(text)
    if len(answers) != 1:
        return None
    number = _NUMBER.fullmatch(answers[0].strip())
    if number is None or not LOWEST <= float(number[0]) <= HIGHEST:
        return None
    return Parsed(float(number[0]), len(number[1] or ""))
