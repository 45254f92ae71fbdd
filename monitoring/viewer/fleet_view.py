"""What the view *Fleet* shows: who sampled what, where the time went, and what failed."""

from typing import Any

import numpy as np

from monitoring.viewer.columns import integers, numbers
from monitoring.viewer.group_index import GroupTable
from monitoring.viewer.viewed_run import ViewedRun

MOST_COLUMNS = 500
MOST_FAILURES = 500
_WAIT, _STEP, _LEARN, _SYNC = "timing/wait_s", "timing/step_s", "learner/update_s", "sync/s"


def fleet(run: ViewedRun) -> dict[str, Any]:
    groups, metrics = run.groups(), run.records("metrics")
    return {
        "workers": _workers(groups, {m["update"]: m.get("time") for m in metrics}),
        "shares": _shares(groups),
        "phases": _phases(metrics),
        "staleness": _staleness(groups),
        "failures": run.records("failures")[-MOST_FAILURES:],
        "faults": run.records("faults"),
    }


def _workers(groups: GroupTable, times: dict[int, float | None]) -> list[dict[str, Any]]:
    """What each worker did in all, and when it was first and last heard of."""
    result = []
    for number in _workers_by_name(groups):
        own = groups.where(groups["worker"] == number)
        last = int(own["update"].max(initial=-1))
        result.append(
            {
                "worker": groups.workers[number],
                "groups": len(own),
                "characters": int(own["characters"].sum()),
                "unparsed": int(own["unparsed"].sum()),
                "completions": int(own["completions"].sum()),
                "first_update": int(own["update"].min(initial=last)),
                "last_update": last,
                "last_time": times.get(last),
            }
        )
    return result


def _shares(groups: GroupTable) -> dict[str, Any]:
    """Groups and characters of text of each worker [workers][columns]; a column is an update, or neighbouring
    ones together where there are more than MOST_COLUMNS."""
    updates, place = np.unique(groups["update"], return_inverse=True)
    stride = -(-len(updates) // MOST_COLUMNS) or 1
    column, n_columns = place // stride, -(-len(updates) // stride)
    numbers_of_workers = _workers_by_name(groups)
    counted = []
    for weights in (None, groups["characters"]):
        cells = np.bincount(
            (groups["worker"] * n_columns + column).astype(int),
            weights,
            minlength=len(groups.workers) * n_columns,
        )
        counted.append(cells.reshape(len(groups.workers), n_columns)[numbers_of_workers])
    return {
        "version": integers(updates[::stride] + 1),
        "updates_per_column": stride,
        "workers": [groups.workers[number] for number in numbers_of_workers],
        "groups": counted[0].astype(int).tolist(),
        "characters": counted[1].astype(int).tolist(),
    }


def _workers_by_name(groups: GroupTable) -> list[int]:
    """Numbers of the workers that have a group, rollout-2 before rollout-10."""
    present = np.unique(groups["worker"]).astype(int).tolist()
    return sorted(present, key=lambda number: (len(groups.workers[number]), groups.workers[number]))


def _phases(metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """Seconds of each update by phase; they add up to the time since the update before was recorded.

    `between updates` lies between the end of one step and the start of the next: evaluations and checkpoints.
    Before the first update of an attempt it is not known, and 0.
    """

    def column(name: str) -> np.ndarray:
        return np.array([float(m.get(name) or 0.0) for m in metrics])

    step, time, attempt = column(_STEP), column("time"), column("attempt")
    sync_names = sorted({name for m in metrics for name in m if name.startswith("sync/")} - {_SYNC})
    parts = {"waiting for answers": column(_WAIT), "learner update": column(_LEARN)}
    parts |= {
        f"weights: {name.removeprefix('sync/').removesuffix('_s')}": column(name) for name in sync_names
    }
    elapsed = step.copy()
    known = (np.diff(attempt) == 0) & (time[:-1] > 0)
    elapsed[1:][known] = np.diff(time)[known]
    seconds = parts | {
        "rest of the step": np.maximum(0.0, step - sum(parts.values())),
        "between updates": np.maximum(0.0, elapsed - step),
    }
    return {
        "version": [m["update"] + 1 for m in metrics],
        "seconds": {name: numbers(values.tolist()) for name, values in seconds.items()},
    }


def _staleness(groups: GroupTable) -> dict[str, Any]:
    """Versions by which the oldest token of a group was behind: mean and largest of each update."""
    updates, place = np.unique(groups["update"], return_inverse=True)
    age = groups["update"] - groups["oldest_version"]
    largest = np.zeros(len(updates))
    np.maximum.at(largest, place, age)
    counts = np.bincount(place, minlength=len(updates))
    mean = np.bincount(place, age, minlength=len(updates)) / np.maximum(counts, 1)
    return {
        "version": integers(updates + 1),
        "mean": numbers(mean.tolist()),
        "largest": numbers(largest.tolist()),
    }
