"""Data for the view *Videos*: the groups of an update, all details of one group, and a video over the run."""

from typing import Any

import numpy as np

from monitoring.viewer.columns import integers, numbers
from monitoring.viewer.viewed_run import NotRecorded, ViewedRun
from rewards.cohort import TOTAL

MOST_VISITS = 60
_SHOWN_OF_A_GROUP = ("mos", "score", "score_std", "perturbed_score", "total", "unparsed", "trained")


def updates(run: ViewedRun) -> dict[str, Any]:
    """The numbers of the updates that have groups."""
    return {"updates": integers(np.unique(run.groups()["update"]))}


def groups_of(run: ViewedRun, update: int) -> dict[str, Any]:
    """The groups of an update as columns, in the order of the file."""
    groups = run.groups()
    groups = groups[groups["update"] == update]
    if groups.empty:
        raise NotRecorded(f"{run.path.name} has no groups of update {update}")
    return {
        "update": update,
        "video_id": groups["video"].tolist(),
        "worker": groups["worker"].tolist(),
        **{name: numbers(groups[name]) for name in _SHOWN_OF_A_GROUP},
        "offset": integers(groups["offset"]),
    }


def group(run: ViewedRun, offset: int) -> dict[str, Any]:
    """All details of one group: the clean and the perturbed copy, each with its ref and its completions."""
    record = run.group(offset)
    rewards = list(run.rewards())
    clean, perturbed = record["clean"], record["perturbed"]
    keys = ("update", "epoch", "cohort", "video_id", "mos", "label_set", "status", "reason", "worker")
    return {key: record.get(key) for key in keys} | {
        "offset": offset,
        "rewards": rewards,
        "clean": {"ref": clean["ref"], "completions": _completions(clean, rewards)},
        "perturbed": perturbed and {"ref": perturbed["ref"], "completions": _completions(perturbed, rewards)},
    }


def history(run: ViewedRun, video_id: str) -> dict[str, Any]:
    """The answers to a video over the run: per visit, all scores and the answer with the highest reward.

    If there are more than MOST_VISITS visits, that many are returned, evenly spaced.
    """
    groups = run.groups()
    offsets = groups.loc[groups["video"] == video_id, "offset"].astype(int).tolist()
    if not offsets:
        raise NotRecorded(f"{run.path.name} has no group of video '{video_id}'")
    chosen = np.linspace(0, len(offsets) - 1, min(MOST_VISITS, len(offsets))).astype(int)
    return {"video_id": video_id, "visits": [_visit(run.group(offsets[place])) for place in chosen]}


def _visit(record: dict[str, Any]) -> dict[str, Any]:
    clean = record["clean"]
    totals = [t if t is not None else -1.0 for t in clean["total"]]
    best = totals.index(max(totals)) if totals else None
    return {
        "update": record["update"],
        "mos": record["mos"],
        "scores": clean["scores"],
        "total": sum(totals) / len(totals) if totals else None,
        "text": "" if best is None else clean["texts"][best],
        "score": None if best is None else clean["scores"][best],
    }


def _completions(copy: dict[str, Any], rewards: list[str]) -> list[dict[str, Any]]:
    """Return one dictionary per completion. Completions for the perturbed copy have scores but no rewards."""
    columns = {
        "text": "texts",
        "score": "scores",
        "advantage": "advantages",
        "finish_reason": "finish_reasons",
        "versions": "versions",
        **{name: name for name in (TOTAL, *rewards)},
    }
    present = {key: copy[name] for key, name in columns.items() if name in copy}
    return [dict(zip(present, values, strict=True)) for values in zip(*present.values(), strict=True)]
