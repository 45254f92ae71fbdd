"""Mean rewards of an update: what counts in which mean."""

import math

import numpy as np
import pytest

from cluster.training_batch import RewardMeans
from data.records import Video
from rewards.cohort import CohortTexts, RewardTable, score_cohort
from rewards.config import RewardConfig


def answer(score: float) -> str:
    return f"<think>hm</think><answer>{score:.2f}</answer>"


def update(*videos: tuple[str, float, bool, list[float]]) -> tuple[dict[str, float], RewardTable]:
    """Metrics and table of one cohort of (label set, mos, rank-only, scores)."""
    cohort = CohortTexts(
        mos=[mos for _, mos, _, _ in videos],
        label_sets=[name for name, _, _, _ in videos],
        rank_only=[rank_only for _, _, rank_only, _ in videos],
        clean=[[answer(s) for s in scores] for _, _, _, scores in videos],
        perturbed=[None] * len(videos),
    )
    table, means = score_cohort(cohort, RewardConfig()), RewardMeans()
    for k, (name, mos, rank_only, _) in enumerate(videos):
        means.add(Video(f"v{k}", "", mos, "train", name, rank_only=rank_only), table, k)
    return means.metrics(), table


def test_one_set_has_plain_means_alone() -> None:
    metrics, table = update(("a/x", 2.0, False, [2.0, 2.5]), ("a/y", 4.0, False, [4.0]))
    assert set(metrics) == {f"reward/{n}" for n in ("total", "regression", "ranking", "temporal", "format")}
    for name in ("total", "regression", "ranking", "format"):
        assert metrics[f"reward/{name}"] == pytest.approx(np.concatenate(table.columns[name]).mean())


def test_rank_only_rows_do_not_drag_the_regression_reward_down() -> None:
    metrics, table = update(
        ("mos", 2.0, False, [2.0]),
        ("ladder/a/blur", 5.0, True, [3.0, 3.1]),
        ("ladder/a/blur", 1.0, True, [2.0, 2.1]),
    )
    assert metrics["reward/regression"] == pytest.approx(1.0)
    assert metrics["reward/total"] == pytest.approx(np.concatenate(table.total).mean())
    assert metrics["reward_by_set/mos/regression"] == pytest.approx(1.0)
    assert math.isnan(metrics["reward_by_set/ladder/regression"])
    assert metrics["reward_by_set/ladder/ranking"] == pytest.approx(
        np.concatenate(table.rewards["ranking"][1:]).mean()
    )
    assert metrics["reward_by_set/ladder/total"] == pytest.approx(np.concatenate(table.total[1:]).mean())
    assert metrics["reward_by_set/mos/ranking"] == 0.0, "it met no other of its set"


def test_without_a_video_there_is_no_mean() -> None:
    assert RewardMeans().metrics() == {}
