"""Plot a run as one picture: rewards, SRCC on held-out videos, and scores against MOS before and after."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from monitoring.metric_table import reward_names
from monitoring.run_dir import RunDirectory

SMOOTHED_OVER_UPDATES = 9


def plot(run: RunDirectory) -> Path:
    """Draw `curves.png` into the run directory; returns its path."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    evaluations = list(run.read_lines("evaluations"))
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    _draw_rewards(axes[0, 0], list(run.read_lines("metrics")))
    _draw_agreement(axes[0, 1], evaluations)
    if evaluations:
        split = evaluations[0]["split"]
        last_version = max(e["version"] for e in evaluations)
        after = f"{split}: after {last_version} updates"
        _draw_scores(axes[1, 0], run.read_predictions(0, split), f"{split}: base")
        _draw_scores(axes[1, 1], run.read_predictions(last_version, split), after)
    path = run.path / "curves.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _draw_rewards(axis: Any, metrics: Sequence[dict[str, Any]]) -> None:
    updates = [m["update"] + 1 for m in metrics]
    shown = reward_names(name for m in metrics for name in m)
    for name in shown:
        values = pd.Series([m.get(f"reward/{name}", np.nan) for m in metrics])
        smoothed = values.rolling(SMOOTHED_OVER_UPDATES, center=True, min_periods=1).mean()
        (line,) = axis.plot(updates, values, alpha=0.25, linewidth=0.8)
        axis.plot(updates, smoothed, color=line.get_color(), label=name)
    axis.set(title="Rewards (mean over completions)", xlabel="update", ylim=(0, None))
    axis.legend(fontsize=8, ncols=max(1, min(5, len(shown))), loc="upper center", bbox_to_anchor=(0.5, -0.12))


def _draw_agreement(axis: Any, evaluations: Sequence[dict[str, Any]]) -> None:
    for split in dict.fromkeys(e["split"] for e in evaluations):
        known = [e for e in evaluations if e["split"] == split and e["srcc"] is not None]
        if not known:
            continue
        version, srcc, low, high = (
            np.array([e[name] for e in known], dtype=float)
            for name in ("version", "srcc", "srcc_low", "srcc_high")
        )
        (line,) = axis.plot(version, srcc, marker="o", label=split)
        axis.fill_between(version, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axis.set(title="SRCC on unseen clips, greedy (band: 95 % interval)", xlabel="update", ylim=(0, 1))
    axis.legend(fontsize=8, loc="lower right")


def _draw_scores(axis: Any, predictions: Sequence[dict[str, Any]], title: str) -> None:
    shown = [p for p in predictions if p["greedy"] is not None and p["headline"]]
    for kind in dict.fromkeys(p["distortion"] for p in shown):
        of_kind = [p for p in shown if p["distortion"] == kind]
        axis.plot([p["mos"] for p in of_kind], [p["greedy"] for p in of_kind], ".", label=kind or None)
    axis.plot([1, 5], [1, 5], color="0.7", linewidth=0.8)
    axis.set(title=title, xlabel="MOS", ylabel="score", xlim=(0.9, 5.1), ylim=(0.9, 5.1))
    if any(p["distortion"] for p in shown):
        axis.legend(fontsize=7)
