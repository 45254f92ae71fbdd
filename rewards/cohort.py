"""All rewards of one cohort: texts in, a table out. Pure, so that any actor gives the same answer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewards.config import RewardConfig
from rewards.registry import rewards_of, weight_of
from rewards.reward import Groups, Reward, answers_of, compute_all

TOTAL = "total"
"""The weighted sum of the rewards, under which it stands beside them in records and metrics."""


@dataclass(frozen=True, slots=True)
class CohortTexts:
    """What the models wrote of the K videos of a cohort: `clean[k]` holds the texts of video k's group,
    `perturbed[k]` those of its perturbed copy, or None without one."""

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
    """K lists of arrays [G_k], one entry a completion. `scores` are NaN where nothing was parsed; `rewards`
    are unweighted, by name; `total` is their weighted sum. All are 0 where nothing was parsed."""

    scores: Groups
    perturbed_scores: Groups
    rewards: dict[str, Groups]
    total: Groups
    needing_scale: frozenset[str]
    """Rewards that a video with a rank-only label cannot earn."""

    @property
    def columns(self) -> dict[str, Groups]:
        """The total and the rewards, by name, as records and metrics hold them."""
        return {TOTAL: self.total} | self.rewards


def score_cohort(
    cohort: CohortTexts, config: RewardConfig, rewards: Sequence[Reward] | None = None
) -> RewardTable:
    """Parse and reward every completion of a cohort.

    Perturbed groups are ranked against the other videos' perturbed groups.

    Args:
        rewards: those of `config` (the default), where they have been loaded already.
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
