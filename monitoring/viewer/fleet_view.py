"""Data for the view *Fleet*: the work of each worker, the durations of each update, and failures."""

from typing import Any

import numpy as np
import pandas as pd

from monitoring.viewer.columns import integers, numbers
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
        "marked": _marked(run.records("marks"))[-MOST_FAILURES:],
        "faults": run.records("faults"),
    }


def _marked(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The latest record of each video; every epoch repeats the record."""
    return list({record.get("video_id"): record for record in records}.values())


def _workers(groups: pd.DataFrame, times: dict[int, float | None]) -> list[dict[str, Any]]:
    """The total work of each worker, and the first and last update with a group that it sampled."""
    result = []
    for worker in _workers_by_name(groups):
        own = groups[groups["worker"] == worker]
        last = int(own["update"].max())
        result.append(
            {
                "worker": worker,
                "groups": len(own),
                **{name: int(own[name].sum()) for name in ("characters", "unparsed", "completions")},
                "first_update": int(own["update"].min()),
                "last_update": last,
                "last_time": times.get(last),
            }
        )
    return result


def _shares(groups: pd.DataFrame) -> dict[str, Any]:
    """The number of groups and of characters that each worker produced, as two [workers][columns] tables.

    A column is one update or, if there are more than MOST_COLUMNS updates, several neighbouring updates.
    """
    updates, place = np.unique(groups["update"], return_inverse=True)
    stride = -(-len(updates) // MOST_COLUMNS) or 1
    workers = _workers_by_name(groups)
    counted = groups.groupby(["worker", place // stride], observed=True)["characters"].agg(["size", "sum"])
    groups_of, characters_of = (
        counted[name].unstack(fill_value=0).reindex(workers).astype(int).to_numpy()
        for name in ("size", "sum")
    )
    return {
        "version": integers(updates[::stride] + 1),
        "updates_per_column": stride,
        "workers": workers,
        "groups": groups_of.tolist(),
        "characters": characters_of.tolist(),
    }


def _workers_by_name(groups: pd.DataFrame) -> list[str]:
    """The workers that have a group, sorted by number (rollout-2 before rollout-10)."""
    return sorted(groups["worker"].unique(), key=lambda worker: (len(worker), worker))


def _phases(metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """The seconds of each update by phase. Their sum is the time since the previous update was recorded.

    `between updates` is the time from the end of one step to the start of the next: evaluations and
    checkpoints. It is unknown for the first update of an attempt, and recorded as 0.
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


def _staleness(groups: pd.DataFrame) -> dict[str, Any]:
    """The staleness of the oldest token of each group, in versions: mean and maximum per update."""
    behind = (groups["update"] - groups["oldest_version"]).groupby(groups["update"]).agg(["mean", "max"])
    return {
        "version": integers(behind.index.to_numpy() + 1),
        "mean": numbers(behind["mean"]),
        "largest": numbers(behind["max"]),
    }
