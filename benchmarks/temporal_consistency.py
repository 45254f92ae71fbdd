"""Does a model score a clip above its copy with the frames out of order? Of one checkpoint or several:

    python -m benchmarks.temporal_consistency --checkpoint demo/tiny-internvl --checkpoint runs/demo-... \
        --json consistency.json

For every perturbation and every held-out clip, the clip and its perturbed copy are judged by the mean of
`--samples` sampled answers, with the same seeds for both, and by the greedy answer. The share is that of the
clips scored above their copies; a tie counts half, so that a model that does not look at the order has 0.5.
Intervals are bootstrapped over contents, and gains are paired: later checkpoints against the first.
"""

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks.order_consistency import consistency, consistency_gain
from data.manifest import read_manifest
from data.perturb import KINDS
from data.records import Group, Perturbation, Video, VideoRef
from data.seeds import stable_hash
from data.video_file import VideoError
from evaluation.answers import score_of, score_requests
from evaluation.models import resolve_checkpoint, scoring_settings
from evaluation.scorer import Scorer
from evaluation.settings import ScoringSettings
from rollout.errors import RolloutFailed

DEMO_MANIFEST = Path("demo/built/manifest.csv")
CLEAN = "clean"
COPIES = (CLEAN, *KINDS)
MEASURES = ("mean of samples", "greedy")

# Scores of each copy of the clips, by measure: arrays [clips], NaN where no answer parses.
Scores = dict[str, dict[str, np.ndarray]]

console = Console(stderr=True)


def refs_of(video: Video, n_frames: int, seed: int) -> list[VideoRef]:
    """The clip and its perturbed copies, as in COPIES. A copy depends on seed, clip and kind alone."""
    clean = VideoRef(video.video_id, video.path, n_frames)
    drawn = (
        Perturbation(kind, stable_hash("temporal consistency", seed, video.video_id, kind)) for kind in KINDS
    )
    return [clean, *(VideoRef(video.video_id, video.path, n_frames, p) for p in drawn)]


async def ask(settings: ScoringSettings, videos: Sequence[Video], samples: int) -> Scores:
    """Scores of every copy of the clips. A clip that cannot be judged has none."""
    limit = asyncio.Semaphore(settings.videos_in_flight)
    table = np.full((len(MEASURES), len(COPIES), len(videos)), np.nan)

    async def judge(number: int, video: Video, scorer: Scorer, progress: Progress) -> None:
        refs = refs_of(video, settings.frames_per_video, settings.seed)
        requests = [
            score_requests(ref, samples, settings.seed, settings.temperature, settings.max_completion_tokens)
            for ref in refs
        ]
        async with limit:
            try:
                _, groups = await scorer.sample(refs[0], [r for of_copy in requests for r in of_copy])
            except (VideoError, RolloutFailed) as error:
                console.print(f"left out: {error}", markup=False)
                return
        greedy, sampled = groups[::2], groups[1::2]
        table[:, :, number] = [[_mean(g) for g in sampled], [_mean(g) for g in greedy]]
        progress.advance(task)

    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(Path(settings.checkpoint).name, total=len(videos))
        async with Scorer(settings) as scorer, asyncio.TaskGroup() as tasks:
            for number, video in enumerate(videos):
                tasks.create_task(judge(number, video, scorer, progress))
    return {
        measure: dict(zip(COPIES, of_measure, strict=True))
        for measure, of_measure in zip(MEASURES, table, strict=True)
    }


def figures(scores: Mapping[str, Scores], sources: np.ndarray) -> list[dict[str, Any]]:
    """One record a measure, kind and checkpoint; the first checkpoint is what the others gain over."""
    rows = []
    first = next(iter(scores))
    for measure in MEASURES:
        for kind in KINDS:
            pairs = {name: (s[measure][CLEAN], s[measure][kind]) for name, s in scores.items()}
            for name, pair in pairs.items():
                row: dict[str, Any] = {"measure": measure, "kind": kind, "checkpoint": name}
                row |= {n: _json(v) for n, v in asdict(consistency(*pair, sources)).items()}
                if name != first:
                    gain = consistency_gain(pairs[first], pair, sources)
                    row |= dict(zip(("gain", "gain_low", "gain_high"), map(_json, gain), strict=True))
                rows.append(row)
    return rows


def table_of(rows: Sequence[Mapping[str, Any]], measure: str) -> str:
    """Markdown: one line a kind and checkpoint."""
    lines = ["| perturbation | checkpoint | share above its copy | ties | margin | clips | gain |"]
    lines.append("| --- " * 7 + "|")
    for r in rows:
        if r["measure"] == measure:
            share = _with_interval(r["share"], r["low"], r["high"])
            gain = _with_interval(r["gain"], r["gain_low"], r["gain_high"]) if "gain" in r else ""
            cells = [r["kind"], r["checkpoint"], share, r["ties"], r["margin"], r["clips"], gain]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _mean(group: Group) -> float:
    scores = [s for s in map(score_of, group.completions) if s is not None]
    return float(np.mean(scores)) if scores else np.nan


def _json(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None


def _with_interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None or low is None or high is None:
        return "–" if value is None else f"{value:.3f}"
    return f"{value:.3f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoint", action="append", required=True, help="run directory, folder or hub name"
    )
    parser.add_argument("--manifest", type=Path, default=DEMO_MANIFEST)
    parser.add_argument("--splits", nargs="+", default=["test", "ood"])
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0, help="seeds perturbations and samples")
    parser.add_argument("--limit", type=int, help="judge this many clips only, spread over all")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    arguments = parser.parse_args()
    if arguments.samples < 1:
        parser.error("--samples: at least 1")
    held_out = [v for v in read_manifest(arguments.manifest) if v.split in arguments.splits and v.headline]
    if not held_out:
        parser.error(f"--splits: {arguments.manifest} has no such clips")
    videos = held_out[:: max(1, len(held_out) // (arguments.limit or len(held_out)))][: arguments.limit]
    scores: dict[str, Scores] = {}
    for name in arguments.checkpoint:
        checkpoint = resolve_checkpoint(name)
        settings = scoring_settings(checkpoint, seed=arguments.seed)
        if settings.frames_per_video < 2:
            parser.error(f"--checkpoint {name}: looks at a single frame, which has no order")
        scores[checkpoint.name] = asyncio.run(ask(settings, videos, arguments.samples))
    rows = figures(scores, np.array([v.source or v.video_id for v in videos]))
    for measure in MEASURES:
        print(f"**{measure}**\n\n{table_of(rows, measure)}\n")
    if arguments.json:
        settings_used = {"samples": arguments.samples, "seed": arguments.seed, "splits": arguments.splits}
        arguments.json.write_text(json.dumps(settings_used | {"figures": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
