"""What is kept of a finished run: one JSON file, small enough to be committed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study.arms import Run
from benchmarks.trace_attribution import VOCABULARY, attribute
from monitoring.run_dir import RunDirectory
from runtime.files import write_atomically

CURVES = (
    "reward/total", "reward/regression", "reward/ranking", "reward/temporal", "reward/format",
    "rollout/score_std", "rollout/unparsed_ratio", "policy/kl_to_base",
)  # fmt: skip
MOST_POINTS = 30


def collect(run: Run, folder: Path, command: Sequence[str]) -> dict[str, Any]:
    """The result of a finished run from its run directory.

    Raises FileNotFoundError if it has no summary.
    """
    directory = RunDirectory(folder)
    summary = json.loads((folder / "summary.json").read_text())
    evaluations = list(directory.read_lines("evaluations"))
    return {
        "arm": run.arm.name,
        "title": run.arm.title,
        "seed": run.seed,
        "command": list(command),
        "seconds": summary["seconds"],
        "updates": max(e["version"] for e in evaluations),
        "base": summary["base"],
        "trained": summary["trained"],
        "gain": summary["gain"],
        "evaluations": [
            {name: e[name] for name in ("version", "split", "srcc", "srcc_low", "srcc_high")}
            for e in evaluations
        ],
        "attribution": [
            {"version": e["version"], "split": e["split"]}
            | attribution_figures(directory.read_predictions(e["version"], e["split"]))
            for e in evaluations
        ],
        "curves": condensed(list(directory.read_lines("metrics"))),
    }


def attribution_figures(predictions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The attribution of the demo's clips in the tiny base's words, as JSON: rounded, and null where there is
    no figure."""
    return {name: _rounded(value) for name, value in asdict(attribute(predictions, VOCABULARY)).items()}


def condensed(metrics: Sequence[Mapping[str, Any]], points: int = MOST_POINTS) -> dict[str, Any]:
    """Curves over the updates as means of at most `points` stretches of about the same length.

    `update` is the last of each stretch, counted from 1; null where a stretch has no value.
    """
    stretches = [s for s in np.array_split(np.arange(len(metrics)), points) if len(s)]
    curves: dict[str, Any] = {"update": [metrics[s[-1]]["update"] + 1 for s in stretches]}
    for name in CURVES:
        values = np.array([m.get(name, np.nan) for m in metrics])
        means = [values[s][np.isfinite(values[s])] for s in stretches]
        curves[name] = [round(float(m.mean()), 5) if len(m) else None for m in means]
    return curves


def write(result: Mapping[str, Any], path: Path) -> None:
    """One line of JSON for each entry of the result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in result.items())
    write_atomically(path, f"{{\n{entries}\n}}\n")


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def read_all(folder: Path) -> list[dict[str, Any]]:
    """All results in a folder, by name."""
    return [read(path) for path in sorted(folder.glob("*-seed*.json"))]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4) if np.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _rounded(v) for name, v in value.items()}
    return value
