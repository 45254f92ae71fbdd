"""All rewards of one cohort: texts in, a table out. Pure, so that any actor gives the same answer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewards.config import RewardConfig
from rewards.format import format_reward
from rewards.parser import parse_score
from rewards.ranking import ranking_rewards
from rewards.regression import regression_reward
from rewards.temporal import temporal_reward

REWARD_NAMES = ("total", "regression", "ranking", "temporal", "format")

Groups = list[np.ndarray]


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
    """K lists of arrays [G_k], one entry a completion. `scores` are NaN where nothing was parsed; the
    components are unweighted, `total` is their weighted sum and 0 where nothing was parsed."""

    scores: Groups
    regression: Groups
    ranking: Groups
    temporal: Groups
    format: Groups
    total: Groups
    perturbed_scores: Groups


def score_cohort(cohort: CohortTexts, config: RewardConfig) -> RewardTable:
    """Parse and reward every completion of a cohort.

    Perturbed groups are ranked against the other videos' perturbed groups. A video whose label is rank-only
    earns no regression reward and no regression half of the temporal one.
    """
    mos = np.array(cohort.mos, dtype=np.float64)
    sets = np.array(cohort.label_sets)
    comparable = sets[:, None] == sets[None, :]
    clean = [_parse(texts) for texts in cohort.clean]
    perturbed = [_parse(texts or []) for texts in cohort.perturbed]

    def regression(groups: list[tuple[np.ndarray, np.ndarray]]) -> Groups:
        return [
            np.zeros(len(scores))
            if rank_only
            else regression_reward(scores, decimals, y, config.sigma, config.short_answer_factor)
            for (scores, decimals), y, rank_only in zip(groups, mos, cohort.rank_only, strict=True)
        ]

    scores = [s for s, _ in clean]
    table = {
        "regression": regression(clean),
        "ranking": ranking_rewards(scores, mos, comparable),
        "format": [format_reward(t, s) for t, s in zip(cohort.clean, scores, strict=True)],
    }
    perturbed_scores = [s for s, _ in perturbed]
    table["temporal"] = [
        temporal_reward(
            *rewards,
            config.temporal_bonus,
            config.temporal_ranking_threshold,
            config.temporal_regression_threshold,
        )
        for rewards in zip(
            table["ranking"],
            table["regression"],
            ranking_rewards(perturbed_scores, mos, comparable),
            regression(perturbed),
            strict=True,
        )
    ]
    weights = {
        "regression": config.regression_weight,
        "ranking": config.ranking_weight,
        "temporal": config.temporal_weight,
        "format": config.format_weight,
    }
    total = [
        np.sum([weight * table[name][k] for name, weight in weights.items()], axis=0)
        for k in range(len(scores))
    ]
    return RewardTable(scores=scores, total=total, perturbed_scores=perturbed_scores, **table)


def _parse(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(scores with NaN for the unparsed, decimals) of a group."""
    parsed = [parse_score(text) for text in texts]
    scores = np.array([np.nan if p is None else p.score for p in parsed], dtype=np.float64)
    return scores, np.array([0 if p is None else p.decimals for p in parsed], dtype=np.int64)
