"""Train the tiny base model from scratch to the shipped weights. `make_base` is seeded and resumable.

The stages, each of which saves its result in the work folder:
    warm     clips for the warm start
    tower    the vision tower
    reader   the text model, on the frozen tower's features
    base     both together; the result is the shipped base, with right words and miscalibrated scores
    ceiling  from that base, on the true scores of the train split; the upper bound for the demo's result
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from data.frames import read_frames
from data.manifest import read_manifest
from data.model_view import ModelView, write_view
from data.records import Video
from demo.base_model.architecture import FRAME_PX, N_FRAMES
from demo.base_model.clips import Clips
from demo.base_model.decoding import frame_stride
from demo.base_model.evaluation import evaluate
from demo.base_model.initialisation import build_model
from demo.base_model.tokenizer import build_processor, build_tokenizer
from demo.base_model.tower import warm_up_tower
from demo.base_model.traces import corpus, miscalibrated_score
from demo.base_model.training import Schedule, Stage, record
from demo.base_model.warm_start import Supervision, right_words, supervise, true_score
from demo.clips.warm import warm_clips

logger = logging.getLogger(__name__)

# Larger than any seed of the demo set's clips, so that no clip is shared.
WARM_CLIPS_FIRST_SEED = 1_000_000
HELD_OUT_SPLITS = ("test", "ood")
LOG_NAME = "make-base.jsonl"
CEILING_NAME = "ceiling.json"
VIEW = ModelView(
    frames_per_video=N_FRAMES, max_frame_px=FRAME_PX, max_completion_tokens=32, max_model_tokens=512
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of `make_base`. The defaults are those of the shipped weights."""

    seed: int = 0
    n_warm_clips: int = 16_000
    tower_steps: int = 2500
    tower_lr: float = 1.5e-3
    reader_steps: int = 2500
    reader_lr: float = 2e-3
    base_steps: int = 500
    base_lr: float = 1e-3
    ceiling_steps: int = 300
    ceiling_lr: float = 5e-4
    workers: int = 2


def make_base(
    out: Path, work: Path, manifest: Path, recipe: Recipe | None = None, resume: bool = True
) -> None:
    """Train the tiny base model and its ceiling, and log the training.

    Args:
        out: output folder for weights, processor, `scoring.json`, `make-base.jsonl` and `ceiling.json`.
        work: folder for intermediate results and checkpoints.
        manifest: the manifest of the demo set. The ceiling is trained on its train split; test and ood are
            used for evaluation.
        resume: continue from the results in `work`; otherwise, delete them first.
    """
    recipe = recipe or Recipe()
    out.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    log = out / LOG_NAME
    stages = {name: Stage(name, work, log) for name in ("tower", "reader", "base", "ceiling")}
    if not resume:
        for path in (log, work / "warm.npz", *(p for s in stages.values() for p in (s.checkpoint, s.result))):
            path.unlink(missing_ok=True)
    videos = read_manifest(manifest)
    held_out = {split: load_clips(videos, split) for split in HELD_OUT_SPLITS}

    tokenizer = build_tokenizer(corpus())
    processor = build_processor(tokenizer)
    model = build_model(tokenizer, frame_stride(processor), recipe.seed)
    if not _load(model, stages["base"]):
        clips = _warm_clips(work / "warm.npz", recipe)
        if not (_load(model, stages["reader"]) or _load(model, stages["tower"])):
            schedule = Schedule(recipe.tower_steps, recipe.tower_lr)
            warm_up_tower(model, clips, held_out, stages["tower"], schedule, recipe.seed)
        write = right_words(clips, miscalibrated_score)
        if not stages["reader"].result.exists():
            schedule = Schedule(recipe.reader_steps, recipe.reader_lr)
            plan = Supervision(schedule, videos_per_step=24, frozen_tower=True)
            supervise(model, processor, clips, write, stages["reader"], plan, recipe.seed)
        plan = Supervision(Schedule(recipe.base_steps, recipe.base_lr))
        supervise(model, processor, clips, write, stages["base"], plan, recipe.seed)
    base_figures = _figures(model, processor, held_out, stages["base"])
    model.save_pretrained(out)
    processor.save_pretrained(out)
    write_view(out, VIEW)

    train_clips = load_clips(videos, "train")
    if not _load(model, stages["ceiling"]):
        plan = Supervision(Schedule(recipe.ceiling_steps, recipe.ceiling_lr))
        write = right_words(train_clips, true_score)
        supervise(model, processor, train_clips, write, stages["ceiling"], plan, recipe.seed)
    report = {
        "recipe": asdict(recipe),
        "command": "python launch.py make-base",
        "base": base_figures,
        "ceiling": _figures(model, processor, held_out, stages["ceiling"]),
    }
    (out / CEILING_NAME).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def load_clips(videos: Sequence[Video], split: str) -> Clips:
    """Decode the clips of a split of the demo set.

    Raises:
        ValueError: if the split has no videos.
        VideoError: if a file cannot be decoded.
    """
    chosen = [video for video in videos if video.split == split]
    if not chosen:
        raise ValueError(f"the manifest has no videos of split {split!r}: rebuild the demo set")
    return Clips(
        np.stack([read_frames(video.path, N_FRAMES) for video in chosen]),
        [video.distortion for video in chosen],
        np.array([video.mos for video in chosen]),
        [video.source for video in chosen],
        np.array([video.headline for video in chosen]),
    )


def _warm_clips(path: Path, recipe: Recipe) -> Clips:
    """Load the clips of the warm start from `path`; make and save them if the file does not exist."""
    if not path.exists():
        logger.info("making %d clips for the warm start", recipe.n_warm_clips)
        made = warm_clips(recipe.n_warm_clips, WARM_CLIPS_FIRST_SEED, recipe.workers)
        partial = path.with_suffix(".writing.npz")
        np.savez(partial, frames=made["frames"], kinds=made["kinds"], mos=made["mos"])
        partial.replace(path)
    with np.load(path) as saved:
        kinds, mos = saved["kinds"].tolist(), saved["mos"]
        return Clips(saved["frames"], kinds, mos, [""] * len(kinds), np.ones(len(kinds), dtype=bool))


def _load(model: Any, stage: Stage) -> bool:
    """Load the stage's result into `model`, if it exists; returns whether it does."""
    if not stage.result.exists():
        return False
    state = load_file(stage.result)
    model.load_state_dict({n: t for n, t in state.items() if not n.startswith("head.")}, strict=False)
    return True


def _figures(
    model: Any, processor: Any, held_out: Mapping[str, Clips], stage: Stage
) -> dict[str, dict[str, dict[str, float]]]:
    """Evaluate each split on its headline rows and on all rows; returns figures by split and by these two."""
    figures: dict[str, dict[str, dict[str, float]]] = {}
    with torch.no_grad():
        for split, clips in held_out.items():
            headline = evaluate(model, processor, clips.where(clips.headline))
            figures[split] = {"headline": headline, "all": evaluate(model, processor, clips)}
            record(stage, {"split": split, **{f"headline_{name}": v for name, v in headline.items()}})
    return figures
