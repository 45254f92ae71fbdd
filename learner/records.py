"""What goes into an update and what comes out of starting a learner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from data.records import Group
from learner.batch_planning import Piece

if TYPE_CHECKING:
    import numpy as np
    import ray

Layout = Literal["unpacked", "vision_once", "packed"]
"""How a group enters the forward pass: every completion with its own copy of prompt and frames; prompts
copied but frames encoded once a video; or one prompt that all completions of the group attend to."""


ReferenceLogprobs = list["np.ndarray"]
"""Of one group under the frozen reference: float32 [tokens] for each completion."""


@dataclass(frozen=True, slots=True)
class TrainSample:
    """A group to train on. `frames` refers to the decoded clean frames, uint8 [T, H, W, 3]; `advantages` has
    one entry per completion. `reference` is None where the update has to compute it."""

    group: Group
    frames: ray.ObjectRef
    advantages: list[float]
    reference: ReferenceLogprobs | None = None


@dataclass(frozen=True, slots=True)
class LearnerInfo:
    """What started. `extra` is what the caller stored in the checkpoint that was loaded, else empty."""

    ranks: int
    layout: Layout
    trainable_parameters: int
    frozen_parameters: int
    start_s: float
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RankShard:
    """One rank's part of an update.

    A rank that got no group of its own holds a `filler`: it takes part in every collective with a gradient
    of zero. `completions` and `tokens` count the whole update over all ranks. `passes` are this rank's
    forward passes from a plan for all ranks; None lets the rank plan its own groups alone.
    `reference` holds the reference log-probs of each group; all shards of an update have it, or none has.
    """

    groups: list[Group]
    advantages: list[list[float]]
    filler: bool
    completions: int
    tokens: int
    passes: list[list[Piece]] | None = None
    reference: list[ReferenceLogprobs] | None = None
