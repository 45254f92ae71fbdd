"""Computes the FLOP of an update from a model's sizes. Pure.

A multiply-add counts as 2 FLOP. Included: linear layers, attention (half of the square if it is causal), the
output projection at the answers' tokens, the vision tower and the projector. Not included: embeddings, norms,
activations, the optimizer and all communication.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cluster.config import RunConfig
from cluster.planning.architecture import Architecture
from cluster.planning.memory import FRAME_MARKER_TOKENS, PROMPT_TEXT_TOKENS, trained_parameters
from data.records import Completion, Group, VideoRef
from learner.batch_planning import plan_update, step_tokens

SPREAD = 0.5
"""Assumed standard deviation of the logarithm of the answers' lengths."""
DRAWS = 50


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of one group: a prompt, its frames, and `answers` answers of `answer_tokens` tokens each."""

    frames: int
    frame_px: int
    prompt_tokens: int
    answers: int
    answer_tokens: int


@dataclass(frozen=True, slots=True)
class Forward:
    """FLOP of one forward pass over a group."""

    text: float
    attention: float
    head: float
    vision: float

    @property
    def total(self) -> float:
        return self.text + self.attention + self.head + self.vision


@dataclass(frozen=True, slots=True)
class Lockstep:
    """Means over many random draws of answer lengths. `ratio`: the tokens that synchronised ranks compute or
    wait for, divided by their share of the tokens. `passes`: the number of forward passes of at most
    `learner.micro_batch_tokens`."""

    ratio: float
    passes: float


@dataclass(frozen=True, slots=True)
class Passes:
    """The FLOP of an update as multiples of one forward pass, for the text model and the vision tower."""

    text: float
    vision: float


def text_flop_per_token(model: Architecture) -> float:
    """Compute the FLOP per token of all linear layers except the output projection."""
    return 2.0 * sum(layer.inputs * layer.outputs * layer.count for layer in model.text.linears)


def vision_flop_per_frame(model: Architecture, frame_px: int) -> float:
    """Compute the FLOP of tower and projector for one frame. A layer after the merging of patches runs once
    per token instead of once per patch."""
    tower = model.vision
    patches, tokens = tower.patches(frame_px), tower.tokens(frame_px)
    flop = 4.0 * tower.hidden * patches**2 * tower.layers
    for layer in tower.linears:
        places = patches if layer.inputs in (tower.hidden, tower.mlp) else tokens
        flop += 2.0 * layer.inputs * layer.outputs * layer.count * places
    return flop + sum(2.0 * p.inputs * p.outputs * p.count * tokens for p in tower.projector_linears)


def forward_flop(model: Architecture, sizes: Sizes, layout: str) -> Forward:
    """Compute the FLOP of a forward pass over one group in `layout`.

    `packed` computes prompt and frames once per group. `frames once` computes only the frames once per group.
    `answer by answer` computes both once per answer.
    """
    text, prompt, answer = model.text, sizes.prompt_tokens, sizes.answer_tokens
    prompts = 1 if layout == "packed" else sizes.answers
    pairs = prompts * prompt**2 / 2 + sizes.answers * (prompt * answer + answer**2 / 2)
    encoded = sizes.answers if layout == "answer by answer" else 1
    return Forward(
        text=text_flop_per_token(model) * (prompts * prompt + sizes.answers * answer),
        attention=4.0 * text.layers * text.heads * text.head_dim * pairs,
        head=2.0 * text.hidden * text.vocabulary * sizes.answers * answer,
        vision=vision_flop_per_frame(model, sizes.frame_px) * sizes.frames * encoded,
    )


def passes(config: RunConfig, model: Architecture) -> Passes:
    """Count the passes: reference, forward, recomputation, and 2 for the backward pass (activations and
    weights)."""
    learner = config.learner
    reference = 1 if learner.kl_coefficient > 0 else 0
    recomputed = 1 if learner.gradient_checkpointing else 0
    weights = min(1.0, trained_parameters(learner, model) / model.parameters) if learner.lora else 1.0
    trained = 1 + recomputed + 1 + weights
    return Passes(text=reference + trained, vision=reference + (trained if learner.train_vision else 1))


def update_flop(forward: Forward, times: Passes, groups: float) -> float:
    text = forward.text + forward.attention + forward.head
    return groups * (times.text * text + times.vision * forward.vision)


def lockstep(config: RunConfig, sizes: Sizes, groups: int, skipped: float) -> Lockstep:
    """Simulate the lockstep of ranks: all run as many passes as the rank with the most, and each pass takes
    as long as its slowest rank. A group is left out with probability `skipped`."""
    random = np.random.default_rng(0)
    ratios, counts = [], []
    for _ in range(DRAWS):
        drawn = random.lognormal(np.log(sizes.answer_tokens) - SPREAD**2 / 2, SPREAD, (groups, sizes.answers))
        lengths = np.clip(drawn, 1, config.rollout.max_completion_tokens).astype(int)
        lengths = lengths[random.random(groups) >= skipped]
        batch = [_group(sizes.prompt_tokens, row.tolist()) for row in lengths]
        ranks = config.learner.ranks
        plans = plan_update(batch, ranks, config.learner.micro_batch_tokens, packed=True)
        there = len(batch) * sizes.prompt_tokens + int(lengths.sum())
        ratios.append(step_tokens(plans, packed=True) * ranks / there)
        counts.append(max(len(plan.passes) for plan in plans))
    return Lockstep(float(np.mean(ratios)), float(np.mean(counts)))


def _group(prompt_tokens: int, lengths: Sequence[int]) -> Group:
    completions = [Completion([0] * n, [], "", "stop", [0]) for n in lengths]
    return Group(VideoRef("", "", 1), [0] * prompt_tokens, completions)


def sizes_of(config: RunConfig, model: Architecture, answer_tokens: int) -> Sizes:
    frames, frame_px = config.data.frames_per_video, config.data.max_frame_px
    prompt = frames * (model.vision.tokens(frame_px) + FRAME_MARKER_TOKENS) + PROMPT_TEXT_TOKENS
    return Sizes(frames, frame_px, prompt, config.schedule.completions_per_video, answer_tokens)
