"""Plots of `launch.py evaluate`: scores against labels with the fitted curve, one picture per set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.comparison import Report, SetResult, number
from evaluation.statistics.logistic_fit import FIT_NAME

_INK, _DOTS, _CURVE, _LINE = "0.25", "#3b6ea5", "#c8452d", "0.65"
_CURVE_POINTS = 200


def plot_report(report: Report, folder: Path) -> list[Path]:
    """Draw SET.png for each set, with one panel per model; returns the paths."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    paths = []
    for name, by_model in report.results.items():
        figure, axes = plt.subplots(
            1, len(by_model), figsize=(5.6 * len(by_model), 5.2), layout="constrained", squeeze=False,
            sharex=True, sharey=True,
        )  # fmt: skip
        for axis, result in zip(axes[0], by_model.values(), strict=True):
            _draw(axis, result)
        axes[0, 0].set_ylabel(_label_name(by_model))
        figure.suptitle(name, color=_INK, fontsize=13, fontweight="bold")
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=130)
        plt.close(figure)
    return paths


def _draw(axis: Any, result: SetResult) -> None:
    figures, scale = result.figures, result.of.scale
    n = max(1, figures.n)
    # Draw more dots smaller and more transparent, so that their density stays visible.
    size, alpha = np.clip(12_000 / n, 6, 26), float(np.clip(500 / n, 0.2, 0.75))
    axis.scatter(result.predicted, result.labels, s=size, alpha=alpha, color=_DOTS, edgecolors="none")
    ends = np.array([1.0, 5.0])
    if not result.of.rank_only and np.all((result.predicted >= 1) & (result.predicted <= 5)):
        axis.plot(ends, scale.of_mos(ends), color=_LINE, linewidth=1, linestyle="--", label="score = label")
    if figures.fit is not None:
        x = np.linspace(result.predicted.min(), result.predicted.max(), _CURVE_POINTS)
        axis.plot(x, figures.fit(x), color=_CURVE, linewidth=2, label=f"{FIT_NAME} fit")
    axis.set_title(f"{result.model}, {figures.n} videos\n{_summary(result)}", fontsize=10, color=_INK)
    axis.set_xlabel("score", color=_INK)
    axis.grid(color="0.93", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=9, loc="lower right", frameon=False)


def _summary(result: SetResult) -> str:
    values, (low, high) = result.figures.values, result.figures.intervals["srcc"]
    interval = "" if np.isnan(low) else f" ({low:.2f} to {high:.2f})"
    return (
        f"SRCC {number(values['srcc'])}{interval}\n"
        f"PLCC raw {number(values['plcc_raw'])}, {FIT_NAME} {number(values['plcc_fitted'])}"
    )


def _label_name(by_model: Mapping[str, SetResult]) -> str:
    scale = next(iter(by_model.values())).of.scale
    return f"MOS, on the set's scale from {scale.low:g} to {scale.high:g}"
