"""Whether an answer has the form that was asked for."""

import re
from collections.abc import Sequence

import numpy as np

from rewards.reward import Answers, Groups
from rewards.settings import RewardSettings

NAME = "format"
WEIGHT = 1.0
DESCRIPTION = "1 for <think>…</think><answer>…</answer> and nothing else."

_WELL_FORMED = re.compile(r"\s*<think>(.*?)</think>\s*<answer>(.*?)</answer>\s*", re.DOTALL)
_TAG = re.compile(r"</?(?:think|answer)>")


def reward(answers: Answers, settings: RewardSettings) -> Groups:
    """The format reward of a cohort."""
    return [format_reward(t, s) for t, s in zip(answers.texts, answers.scores, strict=True)]


def format_reward(texts: Sequence[str], scores: np.ndarray) -> np.ndarray:
    """1 for a text that is nothing but `<think>…</think><answer>…</answer>` with a score in it, else 0.

    An answer that does not parse earns nothing at all, its form included.
    """
    return np.array([float(is_well_formed(t)) for t in texts]) * np.isfinite(scores)


def is_well_formed(text: str) -> bool:
    """Whether the whole text is `<think>…</think><answer>…</answer>`, white space around the parts allowed,
    with no tag twice."""
    match = _WELL_FORMED.fullmatch(text)
    return match is not None and not any(_TAG.search(part) for part in match.groups())
