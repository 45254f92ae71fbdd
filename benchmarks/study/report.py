"""The study's results in Markdown: means over seeds, with Student's 95 % interval."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.study.arms import KL_ARMS, REWARD_ARMS, Arm

SPLITS = ("test", "ood")
Result = Mapping[str, Any]
FIGURES = {
    "srcc": "SRCC",
    "mean_srcc": "SRCC, mean of samples",
    "accuracy": "names the distortion",
    "macro_f1": "macro-F1 of that",
    "strength_srcc": "SRCC of the strength word",
    "kl": "KL to base",
}
_CONFIDENCE = 0.95

_INTRODUCTION = """# What each reward is worth, on the demo set

`python -m benchmarks.ablation` trains, and leaves a JSON file here for every run, with the command that gave
it; `python -m benchmarks.ablation --report` makes this page of them. `test` has unseen contents, `ood` unseen
contents and unseen kinds of distortion. Figures are means over seeds, in brackets Student's 95 % interval
over them; the interval over the clips is in the last table. SRCC is of greedy answers;
[method.md](../method.md) says what the figures of the traces are.

![SRCC of each arm, and what the KL coefficient does](ablation.png)
"""


def write_report(results: Sequence[Result], folder: Path) -> Path:
    """Write README.md into the folder of the results; returns its path."""
    parts = [_INTRODUCTION]
    for title, arms in (
        ("Rewards", {arm.title: arm for arm in REWARD_ARMS}),
        ("KL coefficient, with all rewards", {f"{c:g}": arm for c, arm in KL_ARMS.items()}),
    ):
        parts += [f"## {title}\n", *(f"**{s}**\n\n{arm_table(results, s, arms)}\n" for s in SPLITS)]
    parts += ["## Every run\n", run_table(results)]
    path = folder / "README.md"
    path.write_text("\n".join(parts) + "\n")
    return path


def figure(result: Result, stage: str, split: str, name: str) -> float | None:
    """One of FIGURES before (`base`) or after (`trained`); None where there is none."""
    if name == "kl":
        curve = result["curves"].get("policy/kl_to_base") or [None]
        return 0.0 if stage == "base" else curve[-1]
    if name in result[stage][split]:
        return result[stage][split][name]
    traces = [a for a in result["attribution"] if a["split"] == split]
    return traces[0 if stage == "base" else -1].get(name)


def arm_table(results: Sequence[Result], split: str, arms: Mapping[str, Arm]) -> str:
    """The base, and one line an arm that has results, under its name in `arms`."""
    lines = _header("arm", "seeds", *FIGURES.values())
    lines.append(_row("base", "", *(_number(figure(results[0], "base", split, n)) for n in FIGURES)))
    for title, arm in arms.items():
        runs = [r for r in results if r["arm"] == arm.name]
        if runs:
            cells = (mean_and_interval([figure(r, "trained", split, name) for r in runs]) for name in FIGURES)
            lines.append(_row(title, str(len(runs)), *cells))
    return "\n".join(lines)


def run_table(results: Sequence[Result]) -> str:
    """One line a run, with 95 % intervals bootstrapped over contents."""
    columns = [f"{what}, {split}" for split in SPLITS for what in ("SRCC", "gain over base")]
    lines = _header("arm", "seed", "updates", "minutes", *columns)
    for r in results:
        cells = []
        for split in SPLITS:
            scores, gain = r["trained"][split], r["gain"].get(split, {}).get("srcc", {})
            cells.append(_with_interval(scores["srcc"], scores["srcc_low"], scores["srcc_high"]))
            cells.append(_with_interval(gain.get("gain"), gain.get("low"), gain.get("high"), sign="+"))
        minutes = f"{r['seconds'] / 60:.1f}"
        lines.append(_row(r["arm"], str(r["seed"]), str(r["updates"]), minutes, *cells))
    return "\n".join(lines)


def mean_and_interval(values: Sequence[float | None]) -> str:
    """`mean (low to high)` of the seeds that have a value; without an interval for a single one."""
    known = np.array([v for v in values if v is not None], dtype=float)
    if len(known) < 2:
        return _number(known[0] if len(known) else None)
    half = stats.t.ppf(0.5 + _CONFIDENCE / 2, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known))
    return _with_interval(known.mean(), known.mean() - half, known.mean() + half)


def _with_interval(value: float | None, low: float | None, high: float | None, sign: str = "") -> str:
    if low is None or high is None:
        return _number(value, sign)
    return f"{_number(value, sign)} ({low:{sign}.2f} to {high:{sign}.2f})"


def _number(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.3f}"


def _header(*names: str) -> list[str]:
    return [_row(*names), "| --- " * len(names) + "|"]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
