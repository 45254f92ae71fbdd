"""Summarise a finished run from its directory: summary.json, and the rows of the final table."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.statistics.intervals import paired_bootstrap
from monitoring.run_dir import RunDirectory
from runtime.files import write_atomically

SCORES = (
    "srcc",
    "plcc",
    "srcc_low",
    "srcc_high",
    "mean_srcc",
    "mean_plcc",
    "mean_srcc_low",
    "mean_srcc_high",
)


def summarise(run: RunDirectory, ceiling_file: Path, bootstrap_samples: int, seed: int) -> dict[str, Any]:
    """Compute the run's results: scores of base and trained model, and gains with paired intervals.

    If `ceiling_file` exists (demo.base_model.recipe writes it), its ceiling is included.
    """
    evaluations = list(run.read_lines("evaluations"))
    metrics = list(run.read_lines("metrics"))
    failures = list(run.read_lines("failures"))
    last = max((e["version"] for e in evaluations), default=0)
    splits = list(dict.fromkeys(e["split"] for e in evaluations))
    ceiling = json.loads(ceiling_file.read_text())["ceiling"] if ceiling_file.exists() else {}
    summary: dict[str, Any] = {
        "base": {s: _scores(evaluations, s, 0) for s in splits},
        "trained": {s: _scores(evaluations, s, last) for s in splits},
        "ceiling": {s: ceiling[s]["headline"] for s in splits if s in ceiling},
        "gain": {s: _gain(run, s, last, bootstrap_samples, seed) for s in splits if last},
        "updates": max((m["update"] + 1 for m in metrics), default=0),
        "failed_videos": len({(f["epoch"], f["video_id"]) for f in failures}),
        "failed_paths": sorted({f["path"] for f in failures}),
    }
    return summary


def write_summary(run: RunDirectory, summary: dict[str, Any]) -> Path:
    path = run.path / "summary.json"
    write_atomically(path, json.dumps(summary, indent=2) + "\n")
    return path


def _scores(evaluations: Sequence[dict[str, Any]], split: str, version: int) -> dict[str, Any]:
    for record in reversed(evaluations):
        if record["split"] == split and record["version"] == version:
            return {
                name: record[name]
                for name in (*SCORES, "videos", "of_videos", "unparsed", "failed")
                if name in record
            }
    return {}


def _gain(run: RunDirectory, split: str, last: int, bootstrap_samples: int, seed: int) -> dict[str, Any]:
    """Compute the gain in SRCC over the base model on the same videos, with its paired 95 % interval. The
    bootstrap draws whole sources."""
    base, trained = (
        {p["video_id"]: p for p in run.read_predictions(version, split) if p["headline"]}
        for version in (0, last)
    )
    result: dict[str, Any] = {}
    for name, score in (("srcc", _greedy), ("mean_srcc", _sample_mean)):
        shared = [
            v for v in base if v in trained and score(base[v]) is not None and score(trained[v]) is not None
        ]
        if len(shared) < 3:
            continue
        gain = paired_bootstrap(
            np.array([score(base[v]) for v in shared], dtype=float),
            np.array([score(trained[v]) for v in shared], dtype=float),
            np.array([base[v]["mos"] for v in shared]),
            np.array([base[v]["source"] or v for v in shared]),
            samples=bootstrap_samples,
            seed=seed,
        )
        result[name] = {"gain": round(gain[0], 4), "low": round(gain[1], 4), "high": round(gain[2], 4)}
    return result


def _greedy(prediction: dict[str, Any]) -> float | None:
    return prediction["greedy"]


def _sample_mean(prediction: dict[str, Any]) -> float | None:
    scores = [s for s in prediction["samples"] if s is not None]
    return sum(scores) / len(scores) if scores else None
