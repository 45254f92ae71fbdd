"""What takes how long in a simulated run."""

import math
from dataclasses import dataclass, field

from cluster.planning.engines import Answers, EngineSpeed


@dataclass(frozen=True, slots=True)
class EvaluationLoad:
    """Greedy answers to `videos` after every so many updates, so many in flight at once. Blocking, the next
    update waits for it; `beside`, only the next weight push does. Frames that are kept are decoded once."""

    videos: int
    every_updates: int
    in_flight: int = 64
    beside: bool = False
    frames_kept: bool = False


@dataclass(frozen=True, slots=True)
class CheckpointLoad:
    """What the learner does for a checkpoint: it writes for `write_s`; with `checkpoint.background` it copies
    for `snapshot_s`, and a thread writes, which the next checkpoint and the end wait for."""

    write_s: float
    snapshot_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """How long things take, in seconds. `rollout_s` is one video with all its groups on one worker that is
    busy with `videos_at_once` of them; `rollout_spread` the sigma of its log-normal spread (0: none). With
    `engine`, answers are decoded token by token at that speed instead, and have the lengths of `answers`."""

    rollout_s: float = 0.0
    update_s: float = 0.0
    videos_at_once: int = 8
    rollout_spread: float = 0.3
    decode_s: float = 0.5
    decode_slots: int | None = None
    reward_s: float = 0.01
    sync_s: float = 2.0
    """Of a push, while engines stand still."""
    gather_s: float = 0.0
    """Of a push, before engines stand still."""
    worker_start_s: float = 120.0
    worker_lifetime_s: float = math.inf
    """Mean time until a worker dies, exponentially distributed."""
    engine: EngineSpeed | None = None
    answers: Answers = field(default_factory=Answers)
    reference_s: float = 0.0
    """The part of `update_s` that needs no weights of the policy: the reference's log-probs."""
    early_reference: bool = False
    """Compute them cohort by cohort, as soon as one is scored and the learner has nothing else to do."""
    evaluation: EvaluationLoad | None = None
    checkpoint: CheckpointLoad | None = None
