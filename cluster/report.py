"""What a finished run amounts to: summary.json, the final table's rows, and a plot, from its folder alone."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cluster.run_dir import RunDirectory, write_atomically
from rewards.agreement import paired_bootstrap

SCORES = ("srcc", "plcc", "srcc_low", "srcc_high", "mean_srcc", "mean_plcc", "mean_srcc_low", "mean_srcc_high")


def summarise(run: RunDirectory, ceiling_file: Path | None, bootstrap_samples: int, seed: int) -> dict[str, Any]:
    """The run's figures: base, trained, ceiling (where the model ships one), gains with paired intervals."""
    evaluations = list(run.read_lines("evaluations"))
    metrics = list(run.read_lines("metrics"))
    failures = list(run.read_lines("failures"))
    last = max((e["version"] for e in evaluations), default=0)
    splits = list(dict.fromkeys(e["split"] for e in evaluations))
    ceiling = json.loads(ceiling_file.read_text()) if ceiling_file and ceiling_file.exists() else {}
    summary: dict[str, Any] = {
        "base": {s: _scores(evaluations, s, 0) for s in splits},
        "trained": {s: _scores(evaluations, s, last) for s in splits},
        "ceiling": {s: ceiling[s] for s in splits if s in ceiling},
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
    for record in evaluations:
        if record["split"] == split and record["version"] == version:
            return {name: record[name] for name in (*SCORES, "videos", "unparsed", "failed") if name in record}
    return {}


def _gain(run: RunDirectory, split: str, last: int, bootstrap_samples: int, seed: int) -> dict[str, Any]:
    """SRCC gained over the base on the same videos, with the paired 95 % interval over sources."""
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


def plot(run: RunDirectory) -> Path:
    """Draw reward curves, held-out SRCC and predicted-against-MOS scatters; returns the picture's path."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    metrics = list(run.read_lines("metrics"))
    evaluations = list(run.read_lines("evaluations"))
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    updates = [m["update"] + 1 for m in metrics]
    for name in ("total", "regression", "ranking", "temporal", "format"):
        values = np.array([m.get(f"reward/{name}", np.nan) for m in metrics])
        (line,) = axes[0, 0].plot(updates, values, alpha=0.25, linewidth=0.8)
        axes[0, 0].plot(updates, _smooth(values), color=line.get_color(), label=name)
    axes[0, 0].set(title="Rewards (mean over completions)", xlabel="update", ylim=(0, None))
    axes[0, 0].legend(loc="center right", fontsize=8)
    for split in dict.fromkeys(e["split"] for e in evaluations):
        points = [(e["version"], e["srcc"], e["srcc_low"], e["srcc_high"]) for e in evaluations
                  if e["split"] == split and e["srcc"] is not None]  # fmt: skip
        if not points:
            continue
        version, srcc, low, high = (np.array(c, dtype=float) for c in zip(*points, strict=True))
        error = np.clip(np.array([srcc - low, high - srcc]), 0, None)
        axes[0, 1].errorbar(version, srcc, yerror if (yerror := error).any() else None, label=split,
                            marker="o", capsize=3)  # fmt: skip
    axes[0, 1].set(title="SRCC on unseen clips, greedy (95 % interval)", xlabel="update", ylim=(0, 1))
    axes[0, 1].legend(fontsize=8)
    first = evaluations[0]["split"] if evaluations else ""
    last = max((e["version"] for e in evaluations), default=0)
    for axis, version, title in ((axes[1, 0], 0, "base"), (axes[1, 1], last, f"after {last} updates")):
        found = [p for p in run.read_predictions(version, first) if p["greedy"] is not None and p["headline"]]
        for kind in dict.fromkeys(p["distortion"] for p in found):
            shown = [p for p in found if p["distortion"] == kind]
            axis.plot([p["mos"] for p in shown], [p["greedy"] for p in shown], ".", label=kind)
        axis.plot([1, 5], [1, 5], color="0.7", linewidth=0.8)
        axis.set(title=f"{first}: {title}", xlabel="MOS", ylabel="score", xlim=(0.9, 5.1), ylim=(0.9, 5.1))
        axis.legend(fontsize=7)
    path = run.path / "curves.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _smooth(values: np.ndarray, span: int = 9) -> np.ndarray:
    """Centred moving mean that ignores missing values and shrinks its window at the ends."""
    half = span // 2
    return np.array(
        [np.nanmean(w) if np.isfinite(w := values[max(0, i - half) : i + half + 1]).any() else np.nan
         for i in range(len(values))]
    )  # fmt: skip
