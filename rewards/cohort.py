"""Compute all rewards of one cohort from its texts. A pure function, so every actor gives the same result."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewards.config import RewardConfig
from rewards.registry import rewards_of, weight_of
from rewards.reward import Groups, Reward, answers_of, compute_all

TOTAL = "total"
"""The name of the weighted sum of the rewards in records and metrics."""


@dataclass(frozen=True, slots=True)
class CohortTexts:
    """The completions for the K videos of a cohort. `clean[k]` holds the texts of video k's group,
    `perturbed[k]` the texts for its perturbed copy, or None if it has none."""

    mos: list[float]
    label_sets: list[str]
    rank_only: list[bool]
    clean: list[list[str]]
    perturbed: list[list[str] | None]

    def __post_init__(self) -> None:
        lengths = [len(x) for x in (self.mos, self.label_sets, self.rank_only, self.clean, self.perturbed)]
        if len(set(lengths)) != 1:
            raise ValueError(f"a cohort's lists differ in length: {lengths}")


@dataclass(frozen=True, slots=True)
class RewardTable:
    """The rewards of a cohort: K arrays [G_k] each, with one entry per completion.

    `scores` are NaN for completions that do not parse. `rewards` are unweighted, by name, and `total` is
    their weighted sum; both are 0 for completions that do not parse.
    """

    scores: Groups
    perturbed_scores: Groups
    rewards: dict[str, Groups]
    total: Groups
    needing_scale: frozenset[str]
    """Names of the rewards that are undefined for videos with a rank-only label."""

    @property
    def columns(self) -> dict[str, Groups]:
        """The total and the rewards, by the names used in records and metrics."""
        return {TOTAL: self.total} | self.rewards


def score_cohort(
    cohort: CohortTexts, config: RewardConfig, rewards: Sequence[Reward] | None = None
) -> RewardTable:
    """Parse and reward every completion of a cohort.

    Perturbed groups are ranked against the perturbed groups of the other videos.

    Args:
        rewards: the rewards of `config`, if they are already loaded; by default, they are loaded here.
    """
    rewards = rewards_of(config) if rewards is None else rewards
    labels = (cohort.mos, cohort.rank_only, cohort.label_sets)
    clean = answers_of(cohort.clean, *labels)
    clean.perturbed = answers_of([texts or [] for texts in cohort.perturbed], *labels)
    compute_all(rewards, clean, config)
    weights = {reward.name: weight_of(reward, config) for reward in rewards}
    total = [
        np.sum([weight * clean.rewards[name][k] for name, weight in weights.items()], axis=0)
        for k in range(len(clean.scores))
    ]
    return RewardTable(
        scores=clean.scores,
        perturbed_scores=clean.perturbed.scores,
        rewards=clean.rewards,
        total=total,
        needing_scale=frozenset(reward.name for reward in rewards if reward.needs_scale),
    )
