"""Records that are passed to an update, and the result of starting a learner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from data.records import Group
from learner.batch_planning import Piece

if TYPE_CHECKING:
    import numpy as np
    import ray

Layout = Literal["unpacked", "vision_once", "packed"]
"""How a group is arranged in the forward pass. `unpacked`: each completion has its own copy of the prompt and
the frames. `vision_once`: prompts are copied, but frames are encoded once per video. `packed`: all
completions of a group attend to one prompt."""


ReferenceLogprobs = list["np.ndarray"]
"""One group's log-probs under the frozen reference: float32 [tokens] per completion."""


@dataclass(frozen=True, slots=True)
class TrainSample:
    """A group to train on. `frames` is a reference to the decoded clean frames, uint8 [T, H, W, 3].
    `advantages` has one entry per completion. `reference` is None if the update must compute it."""

    group: Group
    frames: ray.ObjectRef
    advantages: list[float]
    reference: ReferenceLogprobs | None = None


@dataclass(frozen=True, slots=True)
class LearnerInfo:
    """Description of a started learner. `extra` is the caller's data from the loaded checkpoint; empty
    without one."""

    ranks: int
    layout: Layout
    trainable_parameters: int
    frozen_parameters: int
    start_s: float
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RankShard:
    """One rank's part of an update.

    A rank without a group of its own has `filler` set: it takes part in every collective with a zero
    gradient. `completions` and `tokens` are counts of the whole update over all ranks. `passes` are this
    rank's forward passes from a plan for all ranks; None lets the rank plan its own groups alone. `reference`
    holds the reference log-probs of each group; either all shards of an update have it, or none has.
    """

    groups: list[Group]
    advantages: list[list[float]]
    filler: bool
    completions: int
    tokens: int
    passes: list[list[Piece]] | None = None
    reference: list[ReferenceLogprobs] | None = None
