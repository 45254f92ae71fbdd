"""What a run that is going on says of itself: `launch.py status`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rollout.member import WorkerStatus


@dataclass(frozen=True, slots=True)
class RunStatus:
    """`seconds` since the start, all attempts together; `metrics` those of the last update, empty before."""

    run_dir: Path
    stage: str
    seconds: float
    version: int
    total_updates: int
    videos_waiting: int
    worker_restarts: int
    learner_restarts: int
    workers: list[WorkerStatus]
    metrics: Mapping[str, float]
