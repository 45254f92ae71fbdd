"""Is the confidence of `launch.py compare` calibrated? How often the preferred clip has the higher MOS.

    python -m benchmarks.comparison_reliability runs/demo0         # a run: its base, and what it trained
    python -m benchmarks.comparison_reliability base.jsonl --manifest demo/built/manifest.csv --split test

Pairs are clips of one source. A run needs `evaluation.samples` of 2 or more. A table is what `launch.py score
MANIFEST --samples 8 --out base.jsonl` writes.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from data.manifest import read_manifest
from evaluation.preference import FEWEST_SAMPLES, confidence
from evaluation.statistics.intervals import interval, resamples
from monitoring.run_dir import RunDirectory

BINS = 10
KINDS = ("one source", "one source and distortion")


@dataclass(frozen=True, slots=True)
class Clip:
    """A scored and labelled clip; `samples` are the sampled scores that parse."""

    source: str
    distortion: str
    mos: float
    samples: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Pairs:
    """[n] each: the confidence in the preferred version, from 0.5 to 1; whether its MOS is the higher one (1,
    0, or 1/2 where neither is preferred); and the source."""

    stated: np.ndarray
    right: np.ndarray
    sources: np.ndarray


@dataclass(frozen=True, slots=True)
class Reliability:
    """Stated confidence against the share right. `error` is the expected calibration error over equal bins
    from 0.5 to 1, whose (mean stated, share right, pairs) are in `bins`. Intervals are 95 %, over sources."""

    pairs: int
    stated: float
    right: float
    right_interval: tuple[float, float]
    error: float
    error_interval: tuple[float, float]
    bins: list[tuple[float, float, int]]


def pairs_of(clips: Sequence[Clip], same_distortion: bool) -> Pairs:
    """Every two clips of one source with different MOS; with `same_distortion`, of one distortion, too."""
    rows = []
    for one, other in combinations(clips, 2):
        if one.source != other.source or one.mos == other.mos:
            continue
        if same_distortion and one.distortion != other.distortion:
            continue
        first = confidence(one.samples, other.samples)
        agrees = (first - 0.5) * (one.mos - other.mos)
        rows.append((max(first, 1 - first), 0.5 + 0.5 * np.sign(agrees), one.source))
    stated, right, sources = zip(*rows, strict=True) if rows else ((), (), ())
    return Pairs(np.array(stated, dtype=float), np.array(right, dtype=float), np.array(sources))


def reliability(pairs: Pairs, samples: int = 1000, seed: int = 0) -> Reliability:
    """Compare stated confidence with the share right; the bootstrap draws whole sources."""
    drawn = list(resamples(pairs.sources, samples, seed))
    return Reliability(
        pairs=len(pairs.stated),
        stated=float(pairs.stated.mean()),
        right=float(pairs.right.mean()),
        right_interval=interval([pairs.right[rows].mean() for rows in drawn]),
        error=calibration_error(pairs.stated, pairs.right),
        error_interval=interval([calibration_error(pairs.stated[rows], pairs.right[rows]) for rows in drawn]),
        bins=list(_bins(pairs.stated, pairs.right)),
    )


def calibration_error(stated: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error: |stated - right| of each bin, weighted by its pairs."""
    return sum(abs(mean - share) * n for mean, share, n in _bins(stated, right)) / len(stated)


def _bins(stated: np.ndarray, right: np.ndarray) -> Iterator[tuple[float, float, int]]:
    of = np.clip(((stated - 0.5) * 2 * BINS).astype(int), 0, BINS - 1)
    for number in range(BINS):
        inside = of == number
        if inside.any():
            yield float(stated[inside].mean()), float(right[inside].mean()), int(inside.sum())


def clips_of_run(run: RunDirectory) -> dict[str, list[Clip]]:
    """The evaluated clips of a run's base and of its last version."""
    evaluations = list(run.read_lines("evaluations"))
    last = max(e["version"] for e in evaluations)
    models = {"base": 0, f"after {last} updates": last}
    splits = {v: [e["split"] for e in evaluations if e["version"] == v] for v in models.values()}
    return {
        model: [_clip(p) for split in splits[v] for p in run.read_predictions(v, split) if p["headline"]]
        for model, v in models.items()
    }


def clips_of_table(table: Path, manifest: Path, splits: Sequence[str]) -> list[Clip]:
    """The clips of a manifest's splits that a score file (.jsonl) has a row of."""
    samples = {row["video_id"]: row["samples"] for row in map(json.loads, table.read_text().splitlines())}
    return [
        _clip({"source": v.source, "distortion": v.distortion, "mos": v.mos, "samples": samples[v.video_id]})
        for v in read_manifest(manifest, check_files=False)
        if v.headline and v.split in splits and v.video_id in samples
    ]


def _clip(row: dict[str, Any]) -> Clip:
    parsed = tuple(score for score in row["samples"] if score is not None)
    return Clip(row["source"], row["distortion"], row["mos"], parsed)


def draw(found: dict[str, dict[str, Reliability]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, len(KINDS), figsize=(5.2 * len(KINDS), 4.8), layout="constrained", sharex=True, sharey=True
    )
    for axis, kind in zip(axes, KINDS, strict=True):
        axis.plot([0.5, 1], [0.5, 1], color="0.65", linestyle="--", label="calibrated")
        for model, by_kind in found.items():
            stated, right, counts = zip(*by_kind[kind].bins, strict=True)
            label = f"{model}: error {by_kind[kind].error:.2f}, {by_kind[kind].pairs} pairs"
            (line,) = axis.plot(stated, right, label=label)
            axis.scatter(stated, right, s=10 + 300 * np.array(counts) / sum(counts), color=line.get_color())
        axis.set(title=f"pairs of {kind}", xlabel="stated confidence", xlim=(0.49, 1.02), ylim=(0.3, 1.02))
        axis.grid(alpha=0.25)
        axis.legend(fontsize=8, loc="upper left")
    axes[0].set_ylabel("share of pairs whose preferred clip has the higher MOS")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("inputs", nargs="+", type=Path, metavar="RUN|TABLE.jsonl")
    parser.add_argument("--manifest", type=Path, help="labels of the tables")
    parser.add_argument("--split", action="append", help="splits of the manifest; default: test")
    parser.add_argument("--picture", type=Path, help="draw the reliability diagram to this .png")
    parser.add_argument("--json", type=Path, help="keep the figures")
    options = parser.parse_args()
    models: dict[str, list[Clip]] = {}
    for given in options.inputs:
        if given.is_dir():
            models |= {f"{given.name}, {m}": clips for m, clips in clips_of_run(RunDirectory(given)).items()}
        elif options.manifest is None:
            parser.error(f"{given}: a table needs --manifest")
        else:
            models[given.stem] = clips_of_table(given, options.manifest, options.split or ["test"])
    found: dict[str, dict[str, Reliability]] = {}
    for model, clips in models.items():
        usable = [clip for clip in clips if len(clip.samples) >= FEWEST_SAMPLES]
        if not usable:
            parser.error(f"{model}: no clip has two sampled scores; score with --samples 8")
        found[model] = {kind: reliability(pairs_of(usable, kind == KINDS[1])) for kind in KINDS}
    print(
        "| model | pairs of | n | stated, mean | right | calibration error |\n"
        "| --- | --- | --- | --- | --- | --- |"
    )
    for model, by_kind in found.items():
        for kind, of in by_kind.items():
            right, error = ("{:.2f} to {:.2f}".format(*i) for i in (of.right_interval, of.error_interval))
            print(
                f"| {model} | {kind} | {of.pairs} | {of.stated:.3f} | {of.right:.3f} ({right}) | "
                f"{of.error:.3f} ({error}) |"
            )
    if options.picture is not None:
        draw(found, options.picture)
    if options.json is not None:
        figures = {model: {kind: asdict(of) for kind, of in by.items()} for model, by in found.items()}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
