"""The interface of rewards. A reward is a module that defines these names:

    NAME = "brevity"                       its name in settings, records and curves
    WEIGHT = 0.2                           its default weight; `rewards.NAME_weight` overrides a built-in one
    DESCRIPTION = "1 for answers of at most 40 words."
    def reward(answers, settings): ...     returns K arrays [G_k], one value per completion of the clean copy

Three further names are optional:

    NEEDS = ("ranking",)                   rewards declared before it, whose values it reads for both copies
    NEEDS_PERTURBED = True                 it compares the clean copy with the perturbed copy
    NEEDS_SCALE = True                     it is undefined for rank-only labels; its mean excludes such videos

The four built-in rewards are such modules, and so are users' files (`rewards.custom`).
"""

from __future__ import annotations

import hashlib
import re
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rewards.parser import parse_score
from rewards.settings import RewardSettings

Groups = list[np.ndarray]
"""K arrays [G_k], one per video, with one entry per completion."""

RESERVED = frozenset(
    {
        "total", "group_std", "ref", "texts", "tokens", "finish_reasons", "versions", "seeds", "scores",
        "score", "advantage", "advantages", "text",
    }
)  # fmt: skip
"""Names that a reward may not have: records and metrics use them for other data."""


@dataclass(slots=True)
class Answers:
    """The parsed answers to one copy, clean or perturbed, of the K videos of a cohort."""

    texts: list[list[str]]
    """The completions: K groups of G_k texts. A group is empty if the video has no such copy."""
    scores: Groups
    """The parsed scores; NaN for answers that do not parse."""
    decimals: Groups
    """The number of decimals of each score in the text."""
    mos: np.ndarray
    """float64 [K]: the labels, from 1 to 5."""
    rank_only: np.ndarray
    """bool [K]: whether the label only orders videos and is not a target for scores."""
    comparable: np.ndarray
    """bool [K, K]: whether the labels of two videos are on the same scale."""
    rewards: dict[str, Groups] = field(default_factory=dict)
    """The values of the rewards computed before this one, by name."""
    perturbed: Answers | None = None
    """On the answers to the clean copy: the answers to the perturbed copy."""


@dataclass(frozen=True, slots=True)
class Reward:
    """A reward as declared by its module. The docstring of this file describes the fields."""

    name: str
    weight: float
    description: str
    compute: Callable[[Answers, RewardSettings], Groups]
    needs: tuple[str, ...] = ()
    needs_perturbed: bool = False
    needs_scale: bool = False
    sha256: str = ""
    """The hash of a user's file; empty for built-in rewards."""


class RewardError(ValueError):
    """A user's reward file cannot be used. The message names the file, the cause and the fix."""


def answers_of(
    texts: list[list[str]], mos: Sequence[float], rank_only: Sequence[bool], label_sets: Sequence[str]
) -> Answers:
    """Parse the answers to one copy of a cohort."""
    parsed = [[parse_score(text) for text in group] for group in texts]
    sets = np.array(label_sets)
    return Answers(
        texts=texts,
        scores=[np.array([np.nan if p is None else p.score for p in g], dtype=np.float64) for g in parsed],
        decimals=[np.array([0 if p is None else p.decimals for p in g], dtype=np.int64) for g in parsed],
        mos=np.array(mos, dtype=np.float64),
        rank_only=np.array(rank_only, dtype=bool),
        comparable=sets[:, None] == sets[None, :],
    )


def reward_of(module: Any, where: str = "", sha256: str = "") -> Reward:
    """Build the reward that a module declares. Raises RewardError if a name is missing or invalid."""
    where = where or module.__name__
    missing = [name for name in ("NAME", "WEIGHT", "DESCRIPTION", "reward") if not hasattr(module, name)]
    if missing:
        raise RewardError(
            f"{where}: defines no {', '.join(missing)}; a reward file needs NAME, WEIGHT, DESCRIPTION and "
            f"reward(answers, settings)"
        )
    if not callable(module.reward):
        raise RewardError(f"{where}: reward is not a function; define `def reward(answers, settings)`")
    name = module.NAME
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in RESERVED:
        raise RewardError(
            f"{where}: NAME is {name!r}; use lower-case letters, digits and _, and none of "
            f"{', '.join(sorted(RESERVED))}"
        )
    try:
        weight = float(module.WEIGHT)
    except (TypeError, ValueError):
        weight = np.nan
    if not np.isfinite(weight) or weight < 0:
        raise RewardError(f"{where}: WEIGHT is {module.WEIGHT!r}; give a finite number, 0 or more")
    return Reward(
        name,
        weight,
        str(module.DESCRIPTION),
        module.reward,
        tuple(getattr(module, "NEEDS", ())),
        bool(getattr(module, "NEEDS_PERTURBED", False)),
        bool(getattr(module, "NEEDS_SCALE", False)),
        sha256,
    )


def load_reward(path: str, text: str) -> Reward:
    """Load the reward in a user's file by executing its content, `text`.

    Raises:
        RewardError: if the file raises an error or declares no valid reward.
    """
    module = types.ModuleType(f"custom_reward_{hashlib.sha256(path.encode()).hexdigest()[:8]}")
    module.__file__ = path
    try:
        exec(compile(text, path, "exec"), module.__dict__)
    except Exception as error:  # a user's file may raise any error
        line = getattr(error, "lineno", None) or _line_in(path, error)
        at = f", line {line}" if line else ""
        raise RewardError(f"{path}{at}: does not load: {type(error).__name__}: {error}") from error
    return reward_of(module, path, hashlib.sha256(text.encode()).hexdigest())


def compute_checked(reward: Reward, answers: Answers, settings: RewardSettings) -> Groups:
    """Compute a reward; set it to 0 for answers that do not parse.

    Raises:
        RewardError: if the values do not have the shape of the scores, or are not finite numbers.
    """
    values = reward.compute(answers, settings)
    wanted = [len(group) for group in answers.scores]
    try:
        found = [np.asarray(group, dtype=np.float64) for group in values]
    except (TypeError, ValueError) as error:
        raise RewardError(f"reward '{reward.name}' did not return lists of numbers: {error}") from error
    if [group.shape for group in found] != [(n,) for n in wanted]:
        raise RewardError(
            f"reward '{reward.name}' returned groups of shape {[group.shape for group in found]}; "
            f"it needs one value per completion: {[(n,) for n in wanted]}"
        )
    paid = [np.where(np.isfinite(s), v, 0.0) for v, s in zip(found, answers.scores, strict=True)]
    if not all(np.isfinite(group).all() for group in paid):
        raise RewardError(f"reward '{reward.name}' returned a value that is not finite")
    return paid


def compute_all(rewards: Sequence[Reward], answers: Answers, settings: RewardSettings) -> None:
    """Compute all rewards into `answers.rewards`.

    Rewards that others need are also computed for the perturbed copy.

    Raises:
        RewardError: as in `compute_checked`.
    """
    needed = {need for reward in rewards for need in reward.needs}
    for reward in rewards:
        answers.rewards[reward.name] = compute_checked(reward, answers, settings)
        if reward.name in needed and answers.perturbed is not None:
            answers.perturbed.rewards[reward.name] = compute_checked(reward, answers.perturbed, settings)


def check_reward(reward: Reward, where: str, before: Sequence[Reward], settings: RewardSettings) -> None:
    """Test a user's reward on a small cohort.

    Args:
        where: the path of its file.
        before: the rewards declared before it.
    Raises:
        RewardError: if it fails; names the file and, if known, the line.
    """
    labels: tuple[list[float], list[bool], list[str]] = [1.5, 3.0, 4.5], [False, True, False], ["a", "a", "b"]
    answers = answers_of(_PROBE, *labels)
    answers.perturbed = answers_of([*_PROBE[:2], []], *labels)
    try:
        compute_all([*before, reward], answers, settings)
    except RewardError as error:
        raise RewardError(f"{where}: {error}") from error
    except Exception as error:  # a user's function may raise any error
        line = _line_in(where, error)
        at = f", line {line}" if line else ""
        raise RewardError(
            f"{where}{at}: reward(answers, settings) failed on a probe cohort: "
            f"{type(error).__name__}: {error}"
        ) from error


_PROBE = [
    ["<think>blur</think><answer>2.50</answer>", "no answer", "<think></think><answer>1</answer>"],
    ["<think>noise, strong</think><answer>3.10</answer>", "<answer>9</answer>"],
    ["<think>sharp</think><answer>4.75</answer>"],
]


def _line_in(path: str, error: BaseException) -> int | None:
    """The line number of the innermost frame of the error's traceback that is in the file at `path`."""
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
