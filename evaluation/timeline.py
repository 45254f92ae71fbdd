"""Cut a long video into windows, and plot their scores over time (`launch.py score --timeline`)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rewards.parser import HIGHEST, LOWEST

_SHORTEST_REST = 0.5
_MOST_WINDOWS = 100_000
"""Limit on windows: over a day in windows of one second. A longer file probably states a wrong length."""


def windows(duration_s: float, step_s: float) -> list[tuple[float, float]]:
    """Cut a video into equal windows; returns (start, end) of each, in seconds.

    A remainder shorter than half a window is joined to the last window, because a score of very few frames is
    not comparable.

    Raises:
        ValueError: if `step_s` or the duration is not positive, or there are more than 100,000 windows.
    """
    if not step_s > 0:
        raise ValueError(f"windows of {step_s:g} s: give a number above 0")
    if not (math.isfinite(duration_s) and duration_s > 0):
        raise ValueError(
            f"cannot cut a video of {duration_s:g} s into windows: remux it to correct its duration"
        )
    if duration_s / step_s > _MOST_WINDOWS:
        raise ValueError(
            f"{duration_s:g} s in windows of {step_s:g} s are more than {_MOST_WINDOWS:,} windows: give "
            f"longer ones, or remux the video if it is not that long"
        )
    count = max(1, int(duration_s / step_s + 1 - _SHORTEST_REST))
    starts = [step_s * number for number in range(count)]
    return list(zip(starts, [*starts[1:], duration_s], strict=True))


def plot_path(out: Path | None, video: str) -> Path:
    """The plot's path: next to the output file; without one, in the current folder, named after the video."""
    return out.with_suffix(".png") if out is not None else Path(f"{Path(video).stem}-timeline.png")


def plot_timeline(rows: Iterable[Mapping[str, Any]], title: str, path: Path) -> None:
    """Plot scores over time, with the mean and standard deviation of sampled answers if there are any.

    Args:
        rows: one per window of a video, in order (see `score_rows.row_of`); values may be strings.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    points = [
        (
            float(r["start_s"]),
            float(r["end_s"]),
            *map(_number, (r["score"], r["sample_mean"], r["sample_spread"])),
        )
        for r in rows
    ]
    figure, axis = plt.subplots(figsize=(10, 3.6), layout="constrained")
    scored = [p for p in points if p[2] == p[2]]
    axis.hlines(
        [p[2] for p in scored], [p[0] for p in scored], [p[1] for p in scored], linewidth=2.5, label="greedy"
    )
    middles = [(start + end) / 2 for start, end, *_ in points]
    if any(p[4] == p[4] for p in points):
        means, spreads = [p[3] for p in points], [p[4] for p in points]
        axis.errorbar(
            middles, means, spreads, fmt="o", markersize=3, color="C1", capsize=2,
            label="samples: mean, standard deviation",
        )  # fmt: skip
    missing = [m for m, p in zip(middles, points, strict=True) if p[2] != p[2]]
    if missing:
        axis.plot(missing, [LOWEST] * len(missing), "x", color="C3", clip_on=False, label="no score")
    axis.set(title=title, xlabel="seconds", ylabel="score", ylim=(LOWEST, HIGHEST), xlim=_limits(points))
    axis.grid(alpha=0.25)
    axis.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _limits(points: Sequence[tuple[float, ...]]) -> tuple[float, float]:
    return points[0][0], max(end for _, end, *_ in points)


def _number(cell: Any) -> float:
    return float("nan") if cell in (None, "") else float(cell)
