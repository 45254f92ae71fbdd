"""Do the traces name the distortion? Before, during and after training, of one run or several:

    python -m benchmarks.attribution runs/demo-* --json attribution.json --plot attribution.png

Reads the predictions in the run directories, and starts nothing. Splits that are not judged while a run
trains (`evaluation.during`) have a first and a last version. Intervals are over contents, of one run.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study.results import attribution_figures
from monitoring.run_dir import RunDirectory


def rows_of(run: Path) -> list[dict[str, Any]]:
    """The figures of every evaluated version and split of a run."""
    directory = RunDirectory(run)
    return [
        {"run": run.name, "split": e["split"], "version": e["version"], "srcc": e["srcc"]}
        | attribution_figures(directory.read_predictions(e["version"], e["split"]))
        for e in directory.read_lines("evaluations")
    ]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown, one line a run, split and version."""
    lines = [
        "| run | split | version | clips | names the distortion | macro-F1 | SRCC of strength word | "
        "SRCC of score | best constant | unnamed |",
        "| --- " * 10 + "|",
    ]
    for r in rows:
        figures = [_with_interval(r, name) for name in ("accuracy", "macro_f1", "strength_srcc")]
        rest = [_number(r["srcc"]), _number(r["constant_accuracy"]), str(r["unnamed"])]
        cells = [r["run"], r["split"], str(r["version"]), str(r["clips"]), *figures, *rest]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Confusion matrices of the first and the last version, all runs added up, and the figures over the
    updates."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    splits = list(dict.fromkeys(r["split"] for r in rows))
    figure, axes = plt.subplots(
        len(splits), 3, figsize=(16, 5 * len(splits)), layout="constrained", squeeze=False
    )
    for line, split in zip(axes, splits, strict=True):
        of_split = [r for r in rows if r["split"] == split]
        versions = sorted({r["version"] for r in of_split})
        for axis, version in zip(line, (versions[0], versions[-1]), strict=False):
            _draw_matrix(
                axis, [r for r in of_split if r["version"] == version], f"{split}, version {version}"
            )
        _draw_curves(line[2], of_split, split)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _draw_matrix(axis: Any, rows: Sequence[Mapping[str, Any]], title: str) -> None:
    counts = np.sum([r["confusion"] for r in rows], axis=0)
    axis.imshow(counts / counts.sum(1, keepdims=True), vmin=0, vmax=1, cmap="Blues")
    for (row, column), count in np.ndenumerate(counts):
        if count:
            dark = count > counts[row].sum() / 2
            axis.text(column, row, count, ha="center", va="center", color="w" if dark else "k", fontsize=8)
    axis.set(title=f"{title}: clips", xlabel="named in the trace", ylabel="really applied")
    axis.set_xticks(range(len(rows[0]["columns"])), rows[0]["columns"], rotation=45, ha="right")
    axis.set_yticks(range(len(rows[0]["rows"])), rows[0]["rows"])


def _draw_curves(axis: Any, rows: Sequence[Mapping[str, Any]], split: str) -> None:
    names = {
        "accuracy": "names the distortion",
        "strength_srcc": "SRCC of strength word",
        "srcc": "SRCC of score",
    }
    for colour, (name, label) in enumerate(names.items()):
        for number, run in enumerate(dict.fromkeys(r["run"] for r in rows)):
            known = sorted((r["version"], r[name]) for r in rows if r["run"] == run and r[name] is not None)
            axis.plot(
                *zip(*known, strict=True), marker="o", color=f"C{colour}", label=None if number else label
            )
    axis.set(title=f"{split}: over the updates", xlabel="update", ylim=(None, 1))
    axis.legend(fontsize=8)


def _with_interval(row: Mapping[str, Any], name: str) -> str:
    if row[f"{name}_low"] is None:
        return _number(row[name])
    return f"{_number(row[name])} ({row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directories")
    parser.add_argument("--json", type=Path, help="write all figures here, too")
    parser.add_argument("--plot", type=Path, help="draw confusion matrices and curves here")
    arguments = parser.parse_args()
    rows = [row for run in arguments.runs for row in rows_of(run)]
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    if arguments.plot:
        plot(rows, arguments.plot)


if __name__ == "__main__":
    main()
