"""Pictures of `launch.py compare`: versions of one content with their scores, or differences of folders."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.preference import paired_difference
from evaluation.versions import Comparison, Rated
from rewards.parser import HIGHEST, LOWEST

_WIDTH_IN, _FRAMES_IN, _TEXT_IN, _LINE_CHARACTERS, _MOST_LINES = 10.0, 2.3, 0.5, 118, 8
_INK, _DOTS, _MEAN = "0.25", "#3b6ea5", "#c8452d"


@dataclass(frozen=True, slots=True)
class Panel:
    """One version: its frames side by side, uint8 [height, width, 3], and its answers."""

    name: str
    frames: np.ndarray
    rated: Rated


def draw_versions(panels: Sequence[Panel], model: str, path: Path) -> None:
    """Draw each version's frames with score, spread and trace, and the sampled scores of all below."""
    plt = _pyplot()
    traces = [_wrapped(panel.rated.trace) for panel in panels]
    heights = [
        min(_FRAMES_IN, 0.87 * _WIDTH_IN * p.frames.shape[0] / p.frames.shape[1])
        + _TEXT_IN + 0.17 * (1 + trace.count("\n"))
        for p, trace in zip(panels, traces, strict=True)
    ]  # fmt: skip
    last = 0.6 + 0.3 * len(panels)
    figure, axes = plt.subplots(
        len(panels) + 1, 1, figsize=(_WIDTH_IN, sum(heights) + last + 0.6), layout="constrained",
        height_ratios=[*heights, last],
    )  # fmt: skip
    figure.suptitle(f"{model}: versions compared", color=_INK, parse_math=False)
    for axis, panel, trace in zip(axes, panels, traces, strict=False):
        axis.imshow(panel.frames)
        axis.set_title(_caption(panel), color=_INK, fontsize=10, loc="left", parse_math=False)
        axis.set_xlabel(trace, color=_INK, fontsize=8, loc="left", parse_math=False)
        axis.set(xticks=[], yticks=[])
    _draw_scores(axes[-1], panels)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_differences(comparison: Comparison, model: str, path: Path) -> None:
    """Draw, for every two folders with a pair, the sorted differences and their mean with its interval."""
    plt = _pyplot()
    names = comparison.versions.names
    found = [
        (i, j, sorted(pair.difference for pair in pairs))
        for i, j in combinations(range(len(names)), 2)
        if (pairs := comparison.pairs_of(i, j))
    ]
    figure, axes = plt.subplots(
        len(found), 1, figsize=(8, 0.6 + 3.2 * len(found)), layout="constrained", squeeze=False
    )
    figure.suptitle(model, color=_INK, parse_math=False)
    for axis, (i, j, differences) in zip(axes[:, 0], found, strict=True):
        of = paired_difference(differences)
        axis.plot(range(1, of.n + 1), differences, "o", color=_DOTS, markersize=4, label="a content")
        axis.axhline(0, color="0.65", linewidth=1)
        axis.axhline(of.mean, color=_MEAN, linewidth=1.5, label=f"mean {of.mean:+.2f}")
        if np.isfinite(of.low):
            axis.axhspan(of.low, of.high, color=_MEAN, alpha=0.15, label="its 95 % interval")
        title = f"{names[i]} minus {names[j]}: {of.better} better, {of.worse} worse, {of.same} equal"
        axis.set_title(title, fontsize=10, color=_INK, parse_math=False)
        axis.set(xlabel="contents, by difference", ylabel="difference of scores")
        axis.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_scores(axis: Any, panels: Sequence[Panel]) -> None:
    """Every sampled score, with mean and standard deviation, a row for each version from the top."""
    for row, panel in enumerate(panels):
        rated = panel.rated
        axis.plot(rated.samples, [row] * len(rated.samples), "o", color=_DOTS, alpha=0.5, markersize=5)
        axis.errorbar(rated.mean, row, xerr=rated.spread, fmt="D", color=_MEAN, capsize=3, markersize=5)
    axis.set(
        xlim=(LOWEST, HIGHEST),
        ylim=(len(panels) - 0.5, -0.5),
        xlabel="sampled scores; mean ± standard deviation",
    )
    axis.set_yticks(range(len(panels)))
    axis.set_yticklabels([Path(panel.name).name for panel in panels], fontsize=8, parse_math=False)
    axis.grid(axis="x", alpha=0.25)


def _caption(panel: Panel) -> str:
    rated = panel.rated
    greedy = "" if rated.score is None else f"; greedy {rated.score:.2f}"
    return f"{panel.name}: {rated.mean:.2f} ± {rated.spread:.2f} ({len(rated.samples)} samples{greedy})"


def _wrapped(trace: str) -> str:
    lines = textwrap.wrap(trace, _LINE_CHARACTERS, max_lines=_MOST_LINES, placeholder=" ...")
    return "\n".join(lines)


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt
