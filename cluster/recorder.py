"""From a scored cohort to what the learner trains on and what the run directory keeps."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import ray

from cluster.reward_means import REWARD_NAMES, RewardMeans
from data.records import Cohort, Group, Video, VideoFailure
from learner.advantages import group_advantages
from learner.config import LearnerConfig
from learner.records import TrainSample
from rewards.cohort import RewardTable


@dataclass(frozen=True, slots=True)
class SampledVideo:
    """One video of a cohort with its groups; `frames` refers to the decoded clean frames, and `marks` are the
    facts that their decoding named."""

    video: Video
    clean: Group
    perturbed: Group | None
    frames: ray.ObjectRef
    marks: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SampledCohort:
    cohort: Cohort
    videos: list[SampledVideo]
    failures: list[VideoFailure]


@dataclass(frozen=True, slots=True)
class ScoredCohort:
    """A sampled cohort and its rewards; row k of the table is `sampled.videos[k]`."""

    sampled: SampledCohort
    rewards: RewardTable | None

    @property
    def cohort(self) -> Cohort:
        return self.sampled.cohort


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """What one update trains on, and what is recorded of it."""

    samples: list[TrainSample]
    group_records: list[dict[str, Any]]
    failures: list[VideoFailure]
    metrics: dict[str, float]

    def skipped(self, reason: str) -> "TrainingBatch":
        """The batch of an update that left the weights as they were: nothing in it was trained on."""
        records = [r | {"status": "skipped", "reason": r["reason"] or reason} for r in self.group_records]
        metrics = self.metrics | {
            "data/trained_videos": 0.0,
            "data/skipped_videos": float(len(records)),
        }
        return replace(self, group_records=records, metrics=metrics)


def training_batch(cohorts: Sequence[ScoredCohort], version: int, config: LearnerConfig) -> TrainingBatch:
    """Turn the scored cohorts of an update into samples, records and metrics.

    A group whose rewards are all equal has no advantage to learn from: it is recorded as skipped and not
    trained on.
    """
    samples: list[TrainSample] = []
    records: list[dict[str, Any]] = []
    rewards = RewardMeans()
    deviations, score_deviations, staleness, lengths = [], [], [], []
    unparsed = completions = tokens = 0
    for scored in cohorts:
        if scored.rewards is None:
            continue
        for k, sampled in enumerate(scored.sampled.videos):
            table = scored.rewards
            total = np.asarray(table.total[k], dtype=float)
            advantages = group_advantages(total, config)
            trained = bool(np.any(advantages != 0.0))
            if trained:
                samples.append(TrainSample(sampled.clean, sampled.frames, [float(a) for a in advantages]))
            rewards.add(sampled.video, table, k)
            scores = np.asarray(table.scores[k], dtype=float)
            parsed = scores[np.isfinite(scores)]
            deviations.append(float(total.std()))
            if len(parsed) > 1:
                score_deviations.append(float(parsed.std(ddof=1)))
            staleness.append(version - sampled.clean.oldest_version)
            lengths += [len(c.token_ids) for c in sampled.clean.completions]
            unparsed += int(np.sum(~np.isfinite(scores)))
            completions += len(scores)
            tokens += sampled.clean.n_tokens + (sampled.perturbed.n_tokens if sampled.perturbed else 0)
            records.append(_group_record(scored.cohort, sampled, table, k, advantages, trained))
    metrics = rewards.metrics() | {
        "reward/group_std": _mean(deviations),
        "rollout/score_std": _mean(score_deviations),
        "rollout/unparsed_ratio": unparsed / completions if completions else math.nan,
        "rollout/completion_tokens": _mean(lengths),
        "rollout/tokens": float(tokens),
        "staleness/max": float(max(staleness, default=0)),
        "data/trained_videos": float(len(samples)),
        "data/skipped_videos": float(len(records) - len(samples)),
        "data/failed_videos": float(sum(len(c.sampled.failures) for c in cohorts)),
    }
    failures = [failure for cohort in cohorts for failure in cohort.sampled.failures]
    return TrainingBatch(samples, records, failures, metrics)


def _group_record(
    cohort: Cohort, sampled: SampledVideo, table: RewardTable, k: int, advantages: np.ndarray, trained: bool
) -> dict[str, Any]:
    return {
        "epoch": cohort.epoch,
        "cohort": cohort.index,
        "video_id": sampled.video.video_id,
        "mos": sampled.video.mos,
        "label_set": sampled.video.label_set,
        "status": "trained" if trained else "skipped",
        "reason": "" if trained else "zero variance",
        "worker": sampled.clean.worker_id,
        "marks": sampled.marks,
        "clean": _copy_record(sampled.clean, table.scores[k])
        | {name: _rounded(getattr(table, name)[k]) for name in REWARD_NAMES}
        | {"advantages": _rounded(advantages)},
        "perturbed": None
        if sampled.perturbed is None
        else _copy_record(sampled.perturbed, table.perturbed_scores[k]),
    }


def _copy_record(group: Group, scores: Any) -> dict[str, Any]:
    return {
        "ref": asdict(group.ref),
        "texts": [c.text for c in group.completions],
        "tokens": [len(c.token_ids) for c in group.completions],
        "finish_reasons": [c.finish_reason for c in group.completions],
        "versions": [sorted(set(c.versions)) for c in group.completions],
        "seeds": [c.seed for c in group.completions],
        "scores": _rounded(scores),
    }


def _rounded(values: Any) -> list[float | None]:
    return [round(float(v), 5) if math.isfinite(v) else None for v in values]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
