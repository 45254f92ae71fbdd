"""The study's supervised arms: `python -m benchmarks.study.supervised --seed 0 --out FOLDER`.

The tiny base, fine-tuned on answers with right words and true scores as its ceiling was, with another seed.
With `--scores-only` it learns from the labels alone, as the rewards do: the words are those that it writes
itself before it is trained, and only the score behind them is taught. Leaves a run directory behind, so that
it is judged like every other run; goes on where it was stopped.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from cluster.config import dump_config, load_config
from data.manifest import manifest_hash, read_manifest
from data.records import Video
from demo.base_model.clips import Clips
from demo.base_model.evaluation import SAMPLES, answers_of, scores_of
from demo.base_model.recipe import Recipe, load_clips
from demo.base_model.training import Schedule, Stage
from demo.base_model.warm_start import SCORE_TAG, Supervision, Writer, right_words, supervise, true_score
from evaluation.held_out import Prediction, agreement
from monitoring.run_dir import RunDirectory
from monitoring.summary import summarise, write_summary
from rewards.parser import parse_score

BOOTSTRAP_SAMPLES = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True, help="run directory")
    parser.add_argument(
        "--preset", type=Path, required=True, help="whose model, manifest and splits are used"
    )
    parser.add_argument("--steps", type=int, default=Recipe().ceiling_steps)
    parser.add_argument("--scores-only", action="store_true", help="teach scores behind the base's own words")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    started_s = time.monotonic()
    config = load_config(arguments.preset, [f"--seed={arguments.seed}", f"--run_dir={arguments.out}"])
    run = RunDirectory(arguments.out)
    if not (run.path / "run.json").exists():
        run.create(dump_config(config), manifest_hash(config.data.manifest))
    attempt = run.start_attempt(0)
    videos = read_manifest(config.data.manifest)
    held_out = {split: [v for v in videos if v.split == split] for split in config.evaluation.splits}
    model: Any = AutoModelForImageTextToText.from_pretrained(config.model.path)
    processor = AutoProcessor.from_pretrained(config.model.path)

    def evaluate(version: int) -> None:
        done = run.evaluated(version)
        for split, chosen in held_out.items():
            if split not in done:
                _evaluate(run, attempt, version, split, predictions(model, processor, chosen, config.seed))

    evaluate(0)
    stage = Stage("supervised", run.path, run.path / "training.jsonl")
    schedule = Schedule(arguments.steps, Recipe().ceiling_lr)
    clips = load_clips(videos, config.data.train_split)
    if arguments.scores_only:
        write = own_words(clips, answers_of(model, processor, clips, SAMPLES, 1.0, config.seed))
        # The kind of a clip's distortion is no label here, so that no clip may be drawn more often for it.
        plan = Supervision(schedule, temporal_share=1.0, scores_only=True)
    else:
        write, plan = right_words(clips, true_score), Supervision(schedule)
    supervise(model, processor, clips, write, stage, plan, config.seed)
    evaluate(arguments.steps)
    model.save_pretrained(run.final)
    processor.save_pretrained(run.final)
    summary = summarise(run, Path(config.model.path) / "ceiling.json", BOOTSTRAP_SAMPLES, config.seed)
    write_summary(run, summary | {"seconds": round(time.monotonic() - started_s, 1)})
    print(json.dumps(summary["trained"], indent=2))


def own_words(clips: Clips, answers: Sequence[Sequence[str]]) -> Writer:
    """Answers with each clip's label behind the words of one of its `answers`, those that do not parse left
    out."""
    words = [[t.split(SCORE_TAG)[0] for t in texts if parse_score(t) is not None] for texts in answers]

    def write(row: int, rng: np.random.Generator) -> str:
        chosen = words[row][int(rng.integers(len(words[row])))]
        return f"{chosen}{SCORE_TAG}{clips.mos[row]:.2f}</answer>"

    return write


def predictions(model: Any, processor: Any, videos: Sequence[Video], seed: int) -> list[Prediction]:
    """What the model says of the videos of one split: greedy answers, and the scores of sampled ones."""
    clips = load_clips(videos, videos[0].split)
    greedy = answers_of(model, processor, clips, 1, temperature=0.0)
    sampled = answers_of(model, processor, clips, SAMPLES, temperature=1.0, seed=seed)
    return [
        Prediction(
            video_id=video.video_id,
            path=video.path,
            mos=video.mos,
            source=video.source,
            headline=video.headline,
            distortion=video.distortion,
            greedy=_known(score),
            text=text,
            samples=[_known(s) for s in samples],
        )
        for video, (text,), (score,), samples in zip(
            videos, greedy, scores_of(greedy), scores_of(sampled), strict=True
        )
    ]


def _known(score: float) -> float | None:
    return float(score) if score == score else None


def _evaluate(run: RunDirectory, attempt: int, version: int, split: str, found: Sequence[Prediction]) -> None:
    header = {"attempt": attempt, "update": version - 1, "version": version, "split": split}
    run.append("evaluations", header | agreement(found, BOOTSTRAP_SAMPLES, seed=0))
    run.write_predictions(version, split, [p.to_json() for p in found])


if __name__ == "__main__":
    main()
