"""Durations in a simulated run."""

import math
from dataclasses import dataclass, field

from cluster.planning.engines import Answers, EngineSpeed


@dataclass(frozen=True, slots=True)
class EvaluationLoad:
    """Evaluations during a simulated run: greedy answers to `videos` videos after every given number of
    updates, with a given number in flight. If it is blocking, the next update waits for it; with `beside`
    only the next weight push waits. Frames that are kept are decoded only once."""

    videos: int
    every_updates: int
    in_flight: int = 64
    beside: bool = False
    frames_kept: bool = False


@dataclass(frozen=True, slots=True)
class CheckpointLoad:
    """The learner's time for checkpoints. It writes for `write_s`. With `checkpoint.background` it copies for
    `snapshot_s` and a thread writes; the next checkpoint and the end of the run wait for that thread."""

    write_s: float
    snapshot_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """Durations in seconds. `rollout_s`: one video with all its groups, on a worker that samples
    `videos_at_once` videos. `rollout_spread`: sigma of its log-normal spread (0: none). If `engine` is set,
    answers with lengths from `answers` are instead decoded token by token at that speed."""

    rollout_s: float = 0.0
    update_s: float = 0.0
    videos_at_once: int = 8
    rollout_spread: float = 0.3
    decode_s: float = 0.5
    decode_slots: int | None = None
    reward_s: float = 0.01
    sync_s: float = 2.0
    """The part of a weight push during which engines are paused."""
    gather_s: float = 0.0
    """The part of a weight push before engines are paused."""
    worker_start_s: float = 120.0
    worker_lifetime_s: float = math.inf
    """Mean time until a worker dies, exponentially distributed."""
    engine: EngineSpeed | None = None
    answers: Answers = field(default_factory=Answers)
    reference_s: float = 0.0
    """The part of `update_s` that does not depend on the policy's weights: the reference's log-probs."""
    early_reference: bool = False
    """Compute the reference's log-probs of each cohort as soon as it is scored and the learner is idle."""
    evaluation: EvaluationLoad | None = None
    checkpoint: CheckpointLoad | None = None
