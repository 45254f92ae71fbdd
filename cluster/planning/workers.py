"""Simulates the control loop of a configuration, also with one condition changed at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cluster.config import RunConfig, derive_sizes
from cluster.planning.architecture import Architecture
from cluster.planning.costs import LoopCosts, update_costs
from cluster.planning.engines import Answers
from cluster.planning.service_times import CheckpointLoad, EvaluationLoad, ServiceTimes
from cluster.planning.simulation import WARM_UP, Outcome, simulate
from cluster.preflight import Job
from data.records import Video
from data.sampler import CohortSampler
from evaluation.held_out import IN_FLIGHT_PER_ENGINE

UPDATES = 30
LSVQ_TRAIN, LSVQ_TEST = 28_056, 7_182
"""Number of videos in LSVQ's splits, which the presets train and evaluate on."""


def plan_workers(
    config: RunConfig, times: ServiceTimes, workers: Sequence[int], updates: int = UPDATES
) -> dict[int, Outcome]:
    """Simulate the first `updates` updates of a run of `config` with each number of workers."""
    schedule = config.schedule
    n_videos = updates * schedule.cohorts_per_update * schedule.videos_per_cohort
    videos = [Video(f"v{i}", f"/v{i}.mp4", 1 + i % 5, "train") for i in range(n_videos)]
    sampler = CohortSampler(
        videos, schedule.videos_per_cohort, config.seed, config.data.frames_per_video, config.temporal
    )
    config = config.model_copy(
        update={"schedule": schedule.model_copy(update={"epochs": 1, "updates": None})}
    )
    job = Job(config, videos, {}, sampler, derive_sizes(config, n_videos, sampler.cohorts_per_epoch))
    return {n: simulate(job, times, n, config.seed) for n in workers}


@dataclass(frozen=True, slots=True)
class LoopPlan:
    """A configuration's control loop under given conditions. Of an evaluation, `evaluated` videos."""

    config: RunConfig
    answers: Answers
    evaluated: int = LSVQ_TEST
    in_flight: int = 64
    frames_kept: bool = False
    evaluation_beside: bool = False
    early_reference: bool = False
    gather_first: bool = False

    @classmethod
    def of(cls, config: RunConfig, answers: Answers, videos: int = LSVQ_TEST) -> "LoopPlan":
        """Return the evaluations of `config`, whose splits evaluated during training have `videos` videos in
        total."""
        evaluated = min(videos, config.evaluation.videos or videos)
        frames_bytes = evaluated * config.data.frames_per_video * 3 * config.data.max_frame_px**2
        return cls(
            config,
            answers,
            evaluated,
            in_flight=IN_FLIGHT_PER_ENGINE * config.rollout.replicas,
            frames_kept=frames_bytes <= config.kept_frames_bytes,
            evaluation_beside=config.evaluation.beside_training,
            early_reference=config.early_reference,
        )

    def times(self, model: Architecture, costs: LoopCosts) -> ServiceTimes:
        """Return the durations of all parts of the loop."""
        config, update = self.config, update_costs(self.config, model, costs, self.answers)
        every = config.evaluation.every_updates
        evaluation = EvaluationLoad(
            self.evaluated, every, self.in_flight, self.evaluation_beside, self.frames_kept
        )
        return ServiceTimes(
            update_s=update.update_s,
            reference_s=update.reference_s,
            early_reference=self.early_reference,
            gather_s=costs.gather_s if self.gather_first else 0.0,
            sync_s=costs.broadcast_s if self.gather_first else costs.gather_s + costs.broadcast_s,
            decode_s=costs.decode_s,
            decode_slots=config.decode_tasks,
            engine=costs.engine_speed(),
            answers=self.answers,
            evaluation=evaluation if every and self.evaluated else None,
            checkpoint=CheckpointLoad(update.checkpoint_s, update.snapshot_s),
        )

    def simulate(self, model: Architecture, costs: LoopCosts, updates: int) -> Outcome:
        replicas = self.config.rollout.replicas
        times = self.times(model, costs)
        return plan_workers(self.config, times, [replicas], WARM_UP + updates)[replicas]

    def run_hours(self, outcome: Outcome, train_videos: int = LSVQ_TRAIN) -> float:
        """Return the hours of all epochs, without start, export and the evaluations before and after
        training."""
        schedule = self.config.schedule
        updates = schedule.epochs * train_videos / (schedule.cohorts_per_update * schedule.videos_per_cohort)
        return updates * outcome.period_s / 3600


def variants(plan: LoopPlan) -> dict[str, LoopPlan]:
    """Return variants of the plan: one condition changed at a time, and options of the loop turned on."""
    config, answers = plan.config, plan.answers
    cap, staleness = config.rollout.max_completion_tokens, config.schedule.max_staleness

    def with_config(max_staleness: int, max_completion_tokens: int) -> LoopPlan:
        schedule = config.schedule.model_copy(update={"max_staleness": max_staleness})
        rollout = config.rollout.model_copy(update={"max_completion_tokens": max_completion_tokens})
        return replace(plan, config=config.model_copy(update={"schedule": schedule, "rollout": rollout}))

    blocking = config.checkpoint.model_copy(update={"background": False})
    return {
        "as configured": plan,
        "no answer runs to the cap": replace(plan, answers=replace(answers, at_cap=0.0)),
        "answers twice as long": replace(plan, answers=replace(answers, mean_tokens=2 * answers.mean_tokens)),
        f"cap {cap // 2}": with_config(staleness, cap // 2),
        f"max_staleness {staleness + 1}": with_config(staleness + 1, cap),
        f"cap {cap // 2} and max_staleness {staleness + 1}": with_config(staleness + 1, cap // 2),
        "no evaluation while training": replace(plan, evaluated=0),
        f"evaluation of all {LSVQ_TEST}": replace(plan, evaluated=LSVQ_TEST, frames_kept=False),
        "evaluation that updates wait for": replace(plan, evaluation_beside=False),
        "checkpoints that block": replace(plan, config=config.model_copy(update={"checkpoint": blocking})),
        "gathering before engines pause": replace(plan, gather_first=True),
        "early reference": replace(plan, early_reference=True),
    }
