"""Data for the list of runs and the view *Curves*."""

from typing import Any

import pandas as pd

from monitoring.metric_table import sections
from monitoring.viewer.columns import integers, numbers, numeric_columns
from monitoring.viewer.viewed_run import ViewedRun
from rewards.cohort import TOTAL

_HEADER = ("attempt", "update", "time")
_SPREAD_QUANTILES = (0.1, 0.9)
MOST_POINTS = 2000


def overview(name: str, run: ViewedRun) -> dict[str, Any]:
    """The entry of a run in the list of runs."""
    metrics, evaluations = run.records("metrics"), run.records("evaluations")
    schedule = run.config().get("schedule")
    evaluated = [e for e in evaluations if e["split"] == evaluations[0]["split"]] if evaluations else []
    return {
        "name": name,
        "path": str(run.path),
        "revision": run.revision(),
        "modified": run.modified(),
        "finished": run.finished(),
        "updates": metrics[-1]["update"] + 1 if metrics else 0,
        "total_updates": schedule.get("updates") if isinstance(schedule, dict) else None,
        "reward": numbers([metrics[-1].get("reward/total")])[0] if metrics else None,
        "srcc": evaluated[-1].get("srcc") if evaluated else None,
        "split": evaluated[-1]["split"] if evaluated else None,
        "broken_lines": run.broken_lines(),
    }


def curves(run: ViewedRun) -> dict[str, Any]:
    """Every metric as a column over versions (update u produces version u + 1), and every split's scores.

    If a run has more than MOST_POINTS updates, neighbouring updates are averaged.
    """
    metrics = run.records("metrics")
    columns = numeric_columns(metrics)
    stride = -(-len(metrics) // MOST_POINTS) or 1
    versions = [m["update"] + 1 for m in metrics]
    evaluations = run.records("evaluations")
    splits = dict.fromkeys(e["split"] for e in evaluations)
    _add_rate(columns)
    rewards = run.rewards()
    return {
        "sections": sections(columns, rewards),
        "bands": {f"reward/{name}": name for name in (TOTAL, *rewards)},
        "version": versions[stride - 1 :: stride] if stride > 1 else versions,
        "time": [round(float(m.get("time") or 0.0), 1) for m in metrics][stride - 1 :: stride],
        "series": {name: _thinned(values, stride) for name, values in columns.items() if name not in _HEADER},
        "evaluations": {
            split: numeric_columns([e for e in evaluations if e["split"] == split]) for split in splits
        },
    }


def spread(run: ViewedRun) -> dict[str, Any]:
    """For each update and reward, the 10 % and 90 % quantiles of the groups' mean rewards."""
    names = [TOTAL, *run.rewards()]
    by_update = run.groups().groupby("update")[names]
    low, high = (by_update.quantile(q, interpolation="nearest") for q in _SPREAD_QUANTILES)
    return {
        "version": integers(low.index.to_numpy() + 1),
        "low": {name: numbers(low[name]) for name in names},
        "high": {name: numbers(high[name]) for name in names},
    }


def _add_rate(columns: dict[str, list[float | None]]) -> None:
    """Add sampled tokens per second if the run did not record them."""
    tokens, seconds = columns.get("rollout/tokens"), columns.get("timing/step_s")
    if "rollout/tokens_per_s" not in columns and tokens and seconds:
        columns["rollout/tokens_per_s"] = [
            t / s if t is not None and s else None for t, s in zip(tokens, seconds, strict=True)
        ]


def _thinned(values: list[float | None], stride: int) -> list[float | None]:
    if stride == 1:
        return values
    whole = pd.Series(values[: len(values) // stride * stride], dtype=float)
    return numbers(whole.groupby(whole.index // stride).mean())
