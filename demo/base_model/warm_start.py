"""Supervised training on answers, for the warm start of the tiny base model and for its ceiling.

Both minimise the cross-entropy of whole answers. The scores in the warm start are miscalibrated on purpose
(`traces.miscalibrated_score`); those for the ceiling are the labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data.distortions import TEMPORAL_KINDS
from demo.base_model.architecture import N_FRAMES
from demo.base_model.clips import Clips, augment
from demo.base_model.decoding import (
    answer_logits,
    embed_prompts,
    encode_answers,
    frame_features,
    place_features,
    prompt_token_ids,
)
from demo.base_model.tower import VISION_PREFIXES
from demo.base_model.traces import TEMPLATES, completion
from demo.base_model.training import Schedule, Stage, finish, step_rng, train

# Returns the score to train on, given a clip's distortion kind and quality.
Scorer = Callable[[str, float, np.random.Generator], float]
# Returns the answer to train on, given a clip's index.
Writer = Callable[[int, np.random.Generator], str]

SCORE_TAG = "<answer>"
CLIPS_PER_BATCH = 64


@dataclass(frozen=True, slots=True)
class Supervision:
    """Settings of the training.

    The `answers_per_video` answers share one forward pass over the frames and the prompt. `temporal_share` is
    the sampling weight of clips whose distortion is visible only between frames; it is above 1 because these
    are the hardest to learn and only one kind among many. `frozen_tower` trains only the text model, on
    features computed once. A step then costs several times less, and learning to compare frames takes many
    steps. `scores_only` excludes the reasoning from the loss.
    """

    schedule: Schedule
    videos_per_step: int = 16
    answers_per_video: int = 3
    vision_lr_scale: float = 0.2
    temporal_share: float = 2.0
    frozen_tower: bool = False
    scores_only: bool = False


def true_score(kind: str, mos: float, rng: np.random.Generator) -> float:
    """Return the label `mos` as the score."""
    return mos


def right_words(clips: Clips, score: Scorer) -> Writer:
    """Return a Writer of answers with the right words for each clip, and scores from `score`."""

    def write(row: int, rng: np.random.Generator) -> str:
        kind, mos = clips.kinds[row], clips.mos[row]
        return completion(kind, mos, score(kind, mos, rng), int(rng.integers(len(TEMPLATES))))

    return write


def supervise(
    model: Any,
    processor: Any,
    clips: Clips,
    write: Writer,
    stage: Stage,
    plan: Supervision,
    seed: int,
) -> None:
    """Train `model` in place on the answers that `write` gives for `clips`."""
    tokenizer = processor.tokenizer
    prompt_ids = prompt_token_ids(processor, N_FRAMES)
    trained = dict(model.named_parameters())
    features = torch.empty(0)
    if plan.frozen_tower:
        trained = {n: p for n, p in trained.items() if not n.startswith(VISION_PREFIXES)}
        starts = range(0, len(clips), CLIPS_PER_BATCH)
        with torch.no_grad():
            batches = [frame_features(model, clips.frames[i : i + CLIPS_PER_BATCH]) for i in starts]
        features = torch.cat(batches)
    share = np.where([kind in TEMPORAL_KINDS for kind in clips.kinds], plan.temporal_share, 1.0)
    share /= share.sum()

    def loss_of_step(step: int) -> tuple[Tensor, Mapping[str, float]]:
        rng = step_rng(seed, stage, step)
        rows = rng.choice(len(clips), plan.videos_per_step, replace=False, p=share)
        texts = [write(row, rng) for row in rows for _ in range(plan.answers_per_video)]
        answers = encode_answers(tokenizer, texts).reshape(len(rows), plan.answers_per_video, -1)
        if plan.frozen_tower:
            prompts = place_features(model, prompt_ids, features[rows])
        else:
            prompts = embed_prompts(model, prompt_ids, augment(clips.frames[rows], rng))
        logits = answer_logits(model, prompts, answers)
        taught = without_words(answers, tokenizer) if plan.scores_only else answers
        loss = F.cross_entropy(logits.flatten(0, 2), taught.flatten(), ignore_index=tokenizer.pad_token_id)
        return loss, {}

    scales = dict.fromkeys(VISION_PREFIXES, plan.vision_lr_scale)
    train(stage, trained, loss_of_step, plan.schedule, lr_scale=scales)
    finish(stage, dict(model.named_parameters()))


def without_words(answers: Tensor, tokenizer: Any) -> Tensor:
    """Replace all tokens of answers [..., n_tokens] before the score's tag by padding."""
    tag = tokenizer.convert_tokens_to_ids(SCORE_TAG)
    return answers.masked_fill((answers == tag).cumsum(-1) == 0, tokenizer.pad_token_id)
