"""The format reward: whether an answer has the requested format."""

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
    """Compute the format reward of a cohort."""
    return [format_reward(t, s) for t, s in zip(answers.texts, answers.scores, strict=True)]


def format_reward(texts: Sequence[str], scores: np.ndarray) -> np.ndarray:
    """1 for each text that is exactly `<think>…</think><answer>…</answer>` and whose score parses, else 0."""
    return np.array([float(is_well_formed(t)) for t in texts]) * np.isfinite(scores)


def is_well_formed(text: str) -> bool:
    """Whether the whole text is `<think>…</think><answer>…</answer>`, with no repeated tag. White space
    around the two parts is allowed."""
    match = _WELL_FORMED.fullmatch(text)
    return match is not None and not any(_TAG.search(part) for part in match.groups())
