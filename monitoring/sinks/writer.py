"""The interface of dashboard writers: scalars, distributions, and a few videos with all their answers.

A step is a policy version: update u produces version u + 1, and an evaluation belongs to its version.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rewards.cohort import TOTAL


@dataclass(frozen=True, slots=True)
class ShownGroup:
    """A video of an update, with its answers. `frames` holds the frames of the clean copy side by side, uint8
    [height, width, 3], or the reason why they cannot be shown."""

    place: str
    """Its rank by mean reward among the videos of the update: "lowest", "middle" or "highest"."""
    record: Mapping[str, Any]
    """Its line in groups.jsonl."""
    frames: np.ndarray | str


class Writer(Protocol):
    """Writes one attempt of a run to one dashboard.

    writer.scalars(step, {"reward/total": 1.5})
    writer.distributions(step, {"completions/score": [2.5, 3.0]})
    writer.groups(step, shown)
    writer.close()
    """

    def scalars(self, step: int, values: Mapping[str, float]) -> None: ...

    def distributions(self, step: int, values: Mapping[str, Sequence[float]]) -> None: ...

    def groups(self, step: int, groups: Sequence[ShownGroup]) -> None: ...

    def close(self) -> None: ...


def distributions(records: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Collect the values of an update's clean completions and the reward spread of its groups for histograms.

    Args:
        records: the update's lines in groups.jsonl.

    Returns:
        The values by name. Missing scores and rewards are left out, and so are names without values.
    """
    found = {
        f"completions/{name}": [float(v) for r in records for v in r["clean"][field] if v is not None]
        for name, field in {
            "score": "scores",
            "reward": "total",
            "advantage": "advantages",
            "tokens": "tokens",
        }.items()
    }
    found["groups/reward_std"] = [float(np.std(_totals(r))) for r in records if _totals(r)]
    return {name: values for name, values in found.items() if values}


def chosen(records: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Choose the videos with the lowest, the middle and the highest mean reward, by these names; fewer if the
    update has fewer videos."""
    ordered = sorted((r for r in records if _totals(r)), key=lambda r: float(np.mean(_totals(r))))
    if not ordered:
        return {}
    places = {0: "lowest", len(ordered) // 2: "middle", len(ordered) - 1: "highest"}
    return {place: ordered[index] for index, place in places.items()}


def answer_columns(rewards: Sequence[str]) -> tuple[str, ...]:
    """The titles of the columns that `answers` returns."""
    return ("score", TOTAL, *rewards, "advantage", "tokens", "versions", "text")


def answers(record: Mapping[str, Any], rewards: Sequence[str]) -> list[tuple[Any, ...]]:
    """The clean answers of a group as rows with the columns `answer_columns`, highest reward first. A score
    that does not parse is None."""
    clean = record["clean"]
    fields = ("scores", TOTAL, *rewards, "advantages", "tokens", "versions", "texts")
    rows = list(zip(*(clean[field] for field in fields), strict=True))
    return sorted(rows, key=lambda row: row[1] or 0.0, reverse=True)


def _totals(record: Mapping[str, Any]) -> list[float]:
    return [float(v) for v in record["clean"]["total"] if v is not None]
