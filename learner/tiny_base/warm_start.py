"""Supervised answers: the warm start of the tiny base, and the ceiling it is compared with.

Both minimise the cross-entropy of whole answers. The warm start's scores are miscalibrated on purpose
(`traces.miscalibrated_score`); the ceiling's are the true ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from learner.tiny_base.architecture import N_FRAMES
from learner.tiny_base.clips import Clips, augment
from learner.tiny_base.decoding import answer_logits, embed_prompts, encode_answers, prompt_token_ids
from learner.tiny_base.tower import VISION_PREFIXES
from learner.tiny_base.traces import TEMPLATES, completion
from learner.tiny_base.training import Schedule, Stage, finish, step_rng, train

# Of a clip's kind and quality, a score to teach.
Scorer = Callable[[str, float, np.random.Generator], float]


@dataclass(frozen=True, slots=True)
class Supervision:
    """How answers are taught: `answers_per_video` share the cost of their video's frames and prompt."""

    schedule: Schedule
    videos_per_step: int = 16
    answers_per_video: int = 3
    vision_lr_scale: float = 0.2


def true_score(kind: str, mos: float, rng: np.random.Generator) -> float:
    """The label itself."""
    return mos


def supervise(
    model: Any,
    processor: Any,
    clips: Clips,
    score: Scorer,
    stage: Stage,
    plan: Supervision,
    seed: int,
    evaluate: Callable[[], Mapping[str, float]] | None = None,
) -> None:
    """Teach `model`, in place, to answer for `clips` with right words and the scores of `score`."""
    prompt_ids = prompt_token_ids(processor, N_FRAMES)
    pad = processor.tokenizer.pad_token_id

    def loss_of_step(step: int) -> tuple[Tensor, Mapping[str, float]]:
        rng = step_rng(seed, stage, step)
        rows = rng.choice(len(clips), plan.videos_per_step, replace=False)
        texts = [
            completion(
                clips.kinds[row],
                clips.mos[row],
                score(clips.kinds[row], clips.mos[row], rng),
                int(rng.integers(len(TEMPLATES))),
            )
            for row in rows
            for _ in range(plan.answers_per_video)
        ]
        answers = encode_answers(processor.tokenizer, texts)
        answers = answers.reshape(len(rows), plan.answers_per_video, -1)
        prompts = embed_prompts(model, prompt_ids, augment(clips.frames[rows], rng))
        logits = answer_logits(model, prompts, answers)
        loss = F.cross_entropy(logits.flatten(0, 2), answers.flatten(), ignore_index=pad)
        return loss, {}

    parameters = dict(model.named_parameters())
    scales = dict.fromkeys(VISION_PREFIXES, plan.vision_lr_scale)
    train(stage, parameters, loss_of_step, plan.schedule, lr_scale=scales, evaluate=evaluate)
    finish(stage, parameters)
