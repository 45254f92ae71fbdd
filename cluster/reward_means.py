"""Mean rewards of an update, over all its videos and for each family of label sets."""

import math

import numpy as np

from data.records import Video
from rewards.cohort import RewardTable

REWARD_NAMES = ("total", "regression", "ranking", "temporal", "format")
_NAMES_BY_SET = ("total", "regression", "ranking")


class RewardMeans:
    """Collects the rewards of an update's groups.

    The regression reward is averaged over videos that can earn it: a rank-only label is no target, and its
    zeros say nothing about the model.
    """

    def __init__(self) -> None:
        self._rewards: dict[str, dict[str, list[np.ndarray]]] = {}

    def add(self, video: Video, table: RewardTable, k: int) -> None:
        """Add row `k` of a cohort's table, the rewards of the completions of `video`."""
        family = self._rewards.setdefault(
            family_of(video.label_set), {name: [np.empty(0)] for name in REWARD_NAMES}
        )
        for name, values in family.items():
            if name != "regression" or not video.rank_only:
                values.append(np.asarray(getattr(table, name)[k], dtype=float))

    def metrics(self) -> dict[str, float]:
        """`reward/NAME`, and `reward_by_set/FAMILY/NAME` where there is more than one family. NaN where no
        video could earn the reward."""
        found = {
            f"reward/{name}": _mean([group for family in self._rewards.values() for group in family[name]])
            for name in REWARD_NAMES
        }
        if len(self._rewards) > 1:
            found |= {
                f"reward_by_set/{name}/{reward}": _mean(family[reward])
                for name, family in self._rewards.items()
                for reward in _NAMES_BY_SET
            }
        return found


def family_of(label_set: str) -> str:
    """What related label sets have in common: the part of their names before the first "/"."""
    return label_set.split("/", 1)[0]


def _mean(groups: list[np.ndarray]) -> float:
    values = np.concatenate(groups) if groups else np.empty(0)
    return float(values.mean()) if len(values) else math.nan
