"""Data for the view *Ranking*: scores of an evaluation against MOS, and one video over all evaluations."""

from typing import Any

import numpy as np

from evaluation.statistics.logistic_fit import FIT_NAME, FitError, fit_logistic
from monitoring.viewer.columns import numbers
from monitoring.viewer.viewed_run import NotRecorded, ViewedRun

_CURVE_POINTS = 80
_TEXTS = ("video_id", "source", "distortion", "text", "failure")


def evaluations(run: ViewedRun) -> dict[str, Any]:
    """Every evaluation with its results, sorted by version and split."""
    records = sorted(run.records("evaluations"), key=lambda e: (e["version"], e["split"]))
    return {"evaluations": [{k: v for k, v in e.items() if k not in ("attempt", "update")} for e in records]}


def ranking(run: ViewedRun, version: int, split: str) -> dict[str, Any]:
    """The evaluated videos as columns, and the logistic curve from scores to MOS, or why it cannot be fitted.

    The curve is fitted to headline videos only.
    """
    predictions = run.predictions(version, split)
    columns: dict[str, Any] = {name: [str(p.get(name) or "") for p in predictions] for name in _TEXTS}
    columns |= {name: numbers(p.get(name) for p in predictions) for name in ("mos", "greedy")}
    columns["sample_mean"] = numbers(_mean(p.get("samples") or []) for p in predictions)
    columns["headline"] = [bool(p.get("headline", True)) for p in predictions]
    return {"version": version, "split": split, "videos": columns, "fit": _fit(columns)}


def clip(run: ViewedRun, split: str, video_id: str) -> dict[str, Any]:
    """The answers of every evaluated version to one video."""
    versions = sorted({e["version"] for e in run.records("evaluations") if e["split"] == split})
    answers = [
        {"version": version} | {name: p.get(name) for name in ("greedy", "text", "samples", "mos", "failure")}
        for version in versions
        for p in run.predictions(version, split)
        if p.get("video_id") == video_id
    ]
    if not answers:
        raise NotRecorded(f"{run.path.name} has no answer to '{video_id}' on '{split}'")
    return {"video_id": video_id, "split": split, "answers": answers}


def _fit(columns: dict[str, Any]) -> dict[str, Any]:
    scores, mos = (np.array(columns[name], dtype=float) for name in ("greedy", "mos"))
    usable = np.isfinite(scores) & np.isfinite(mos) & np.array(columns["headline"], dtype=bool)
    try:
        fit = fit_logistic(scores[usable], mos[usable])
    except FitError as error:
        return {"name": FIT_NAME, "reason": str(error)}
    grid = np.linspace(scores[usable].min(), scores[usable].max(), _CURVE_POINTS)
    plcc = np.corrcoef(fit(scores[usable]), mos[usable])[0, 1]
    return {
        "name": FIT_NAME,
        "score": numbers(grid.tolist()),
        "mos": numbers(fit(grid).tolist()),
        "plcc": numbers([float(plcc)])[0],
    }


def _mean(samples: list[float | None]) -> float | None:
    known = [s for s in samples if s is not None]
    return sum(known) / len(known) if known else None
