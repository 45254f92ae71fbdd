"""The study's picture: SRCC of every arm, and what the KL coefficient does to score and trace."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study.arms import KL_ARMS, REWARD_ARMS
from benchmarks.study.report import SPLITS

OVER_UPDATES = {
    "srcc": "SRCC of the score",
    "accuracy": "names the distortion (accuracy)",
    "strength_srcc": "SRCC of the strength word",
}


def draw(results: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Draw the picture to `path`, which is returned. `test` is what is judged during training."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(15, 9), layout="constrained")
    for axis, split in zip(axes[0], SPLITS, strict=False):
        _draw_arms(axis, results, split)
    _draw_rewards(axes[0, 2], results)
    for axis, (name, title) in zip(axes[1], OVER_UPDATES.items(), strict=True):
        _draw_over_updates(axis, results, name, title)
    figure.savefig(path, dpi=100)
    plt.close(figure)
    return path


def over_updates(results: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """(versions, mean over the runs) of a figure on `test`, where all runs have it."""
    kind = "evaluations" if name == "srcc" else "attribution"
    by_version: dict[int, list[float]] = {}
    for result in results:
        for record in result[kind]:
            if record["split"] == SPLITS[0] and record[name] is not None:
                by_version.setdefault(record["version"], []).append(record[name])
    shared = sorted(v for v, values in by_version.items() if len(values) == len(results))
    return shared, [float(np.mean(by_version[v])) for v in shared]


def _draw_arms(axis: Any, results: Sequence[Mapping[str, Any]], split: str) -> None:
    """A dot a seed and a bar for their mean; the base as a line."""
    shown = [arm for arm in REWARD_ARMS if any(r["arm"] == arm.name for r in results)]
    for row, arm in enumerate(shown):
        values = [r["trained"][split]["srcc"] for r in results if r["arm"] == arm.name]
        known = [v for v in values if v is not None]
        axis.plot(known, [row] * len(known), "o", color="C0", alpha=0.6)
        if known:
            axis.plot([np.mean(known)], [row], "|", color="C3", markersize=22, markeredgewidth=2)
    base = results[0]["base"][split]["srcc"]
    if base is not None:
        axis.axvline(base, color="0.6", linewidth=1, label="base")
        axis.legend(fontsize=8)
    axis.set(title=f"SRCC on {split} (dots: seeds, bar: mean)", xlabel="SRCC")
    axis.set_yticks(range(len(shown)), [arm.name for arm in shown])
    axis.set_ylim(len(shown) - 0.5, -0.5)


def _draw_rewards(axis: Any, results: Sequence[Mapping[str, Any]]) -> None:
    """The total, of which arms have parts of different sizes: each as a share of its own first value."""
    for arm in REWARD_ARMS:
        curves = [r["curves"] for r in results if r["arm"] == arm.name and r["curves"]["update"]]
        if not curves or any(c["update"] != curves[0]["update"] for c in curves):
            continue
        total = np.array([c["reward/total"] for c in curves], dtype=float).mean(0)
        axis.plot(curves[0]["update"], total / total[0], label=arm.name)
    axis.set(title="Total reward, first stretch = 1", xlabel="update")
    if axis.lines:
        axis.legend(fontsize=8)


def _draw_over_updates(axis: Any, results: Sequence[Mapping[str, Any]], name: str, title: str) -> None:
    for coefficient, arm in KL_ARMS.items():
        of_arm = [r for r in results if r["arm"] == arm.name]
        if of_arm:
            axis.plot(*over_updates(of_arm, name), marker="o", label=f"KL {coefficient:g}")
    axis.set(title=f"{title}, {SPLITS[0]}", xlabel="update")
    if axis.lines:
        axis.legend(fontsize=8)
