"""Converts scored cohorts to samples for the learner and records for the run directory."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import ray

from data.records import Cohort, Group, Video, VideoFailure
from learner.config import LearnerConfig
from learner.grpo import group_advantages
from learner.records import ReferenceLogprobs, TrainSample
from rewards.cohort import CohortTexts, RewardTable

REASON = "loss or gradient not finite"
_TELLING = ("learner/loss", "learner/lr", "policy/")


@dataclass(frozen=True, slots=True)
class SampledVideo:
    """One video of a cohort with its groups. `frames` is a reference to the decoded clean frames. `marks` are
    the unusual facts found while decoding."""

    video: Video
    clean: Group
    perturbed: Group | None
    frames: ray.ObjectRef
    marks: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ScoredCohort:
    """The sampled and scored videos of a cohort. Row k of `rewards` belongs to `videos[k]`. `rewards` is None
    if every video failed."""

    cohort: Cohort
    videos: list[SampledVideo]
    failures: list[VideoFailure]
    rewards: RewardTable | None


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """The samples of one update, and the records about it."""

    samples: list[TrainSample]
    group_records: list[dict[str, Any]]
    failures: list[VideoFailure]
    metrics: dict[str, float]

    def skipped(self, reason: str) -> "TrainingBatch":
        """Return the batch for an update that did not change the weights: no group in it counts as trained
        on."""
        records = [r | {"status": "skipped", "reason": r["reason"] or reason} for r in self.group_records]
        metrics = self.metrics | {
            "data/trained_videos": 0.0,
            "data/skipped_videos": float(len(records)),
        }
        return replace(self, group_records=records, metrics=metrics)


def cohort_texts(videos: Sequence[SampledVideo]) -> CohortTexts:
    """Return a cohort's labels and texts, which the reward actors need."""
    return CohortTexts(
        mos=[v.video.mos for v in videos],
        label_sets=[v.video.label_set for v in videos],
        rank_only=[v.video.rank_only for v in videos],
        clean=[v.clean.texts for v in videos],
        perturbed=[None if v.perturbed is None else v.perturbed.texts for v in videos],
    )


def training_batch(
    cohorts: Sequence[ScoredCohort],
    version: int,
    config: LearnerConfig,
    reference: Mapping[int, Sequence[ReferenceLogprobs]] | None = None,
) -> TrainingBatch:
    """Convert the scored cohorts of an update to samples, records and metrics.

    A group with equal rewards has zero advantages: it is recorded as skipped and is not trained on.

    Args:
        reference: by cohort index, the reference log-probs of its samples, where they are known.
    """
    known = reference or {}
    samples: list[TrainSample] = []
    records: list[dict[str, Any]] = []
    rewards = RewardMeans()
    deviations, score_deviations, staleness, lengths = [], [], [], []
    unparsed = completions = tokens = 0
    for scored in cohorts:
        if scored.rewards is None:
            continue
        logprobs = iter(known.get(scored.cohort.index, ()))
        for k, sampled in enumerate(scored.videos):
            table = scored.rewards
            total = np.asarray(table.total[k], dtype=float)
            advantages = group_advantages(total, config)
            trained = bool(np.any(advantages != 0.0))
            if trained:
                values = [float(a) for a in advantages]
                samples.append(TrainSample(sampled.clean, sampled.frames, values, next(logprobs, None)))
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
        "data/failed_videos": float(sum(len(c.failures) for c in cohorts)),
    }
    failures = [failure for cohort in cohorts for failure in cohort.failures]
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
        | {name: _rounded(groups[k]) for name, groups in table.columns.items()}
        | {"advantages": _rounded(advantages)},
        "perturbed": None
        if sampled.perturbed is None
        else _copy_record(sampled.perturbed, table.perturbed_scores[k]),
    }


def _copy_record(group: Group, scores: Any) -> dict[str, Any]:
    return {
        "ref": asdict(group.ref),
        "texts": group.texts,
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


class RewardMeans:
    """Averages the rewards of an update's groups.

    A reward that needs the label's scale is averaged only over videos that can earn it. A video with a
    rank-only label cannot, so its zeros do not measure the model.
    """

    def __init__(self) -> None:
        self._rewards: dict[str, dict[str, list[np.ndarray]]] = {}

    def add(self, video: Video, table: RewardTable, k: int) -> None:
        """Add row `k` of a cohort's table: the rewards of the completions for `video`."""
        family = self._rewards.setdefault(family_of(video.label_set), {})
        for name, groups in table.columns.items():
            values = family.setdefault(name, [])
            if name not in table.needing_scale or not video.rank_only:
                values.append(np.asarray(groups[k], dtype=float))

    def metrics(self) -> dict[str, float]:
        """Return `reward/NAME`, and `reward_by_set/FAMILY/NAME` if there is more than one family. A mean is
        NaN if no video could earn the reward."""
        names = dict.fromkeys(name for family in self._rewards.values() for name in family)
        found = {
            f"reward/{name}": _mean_reward(
                [group for family in self._rewards.values() for group in family[name]]
            )
            for name in names
        }
        if len(self._rewards) > 1:
            found |= {
                f"reward_by_set/{name}/{reward}": _mean_reward(groups)
                for name, family in self._rewards.items()
                for reward, groups in family.items()
            }
        return found


def family_of(label_set: str) -> str:
    """Return the family of a label set: the part of its name before the first "/"."""
    return label_set.split("/", 1)[0]


def _mean_reward(groups: list[np.ndarray]) -> float:
    values = np.concatenate(groups) if groups else np.empty(0)
    return float(values.mean()) if len(values) else math.nan


class TrainingDiverged(RuntimeError):
    """Too many consecutive updates had a non-finite loss or gradient. The message has the last one's
    metrics."""


class FiniteUpdates:
    """Counts skipped updates. `limit` is the number of consecutive ones that ends the run."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._in_a_row = 0

    def check(self, batch: TrainingBatch, metrics: Mapping[str, float], update: int) -> TrainingBatch:
        """Return the batch to record; after a skipped update no video in it counts as trained on.

        Raises TrainingDiverged when the limit is reached.
        """
        if not metrics.get("learner/skipped"):
            self._in_a_row = 0
            return batch
        self._in_a_row += 1
        if self._in_a_row >= self._limit:
            figures = ", ".join(f"{k} {v:g}" for k, v in sorted(metrics.items()) if k.startswith(_TELLING))
            raise TrainingDiverged(
                f"{self._in_a_row} updates in a row, up to update {update}, had a {REASON} ({figures}); "
                f"the usual fixes are a lower learner.lr, a lower learner.max_grad_norm or a higher "
                f"learner.kl_coefficient, from a checkpoint before the first of them"
            )
        return batch.skipped(REASON)
