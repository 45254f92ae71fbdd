"""The update of a policy in plain torch: one process, one completion at a time, nothing shared with learner/
but the records. What ZeRO-3 and packing have to equal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.frame_tokens import DEFAULT_FRAME_TOKENS
from data.perturb import draw_perturbation, perturb
from data.prompt import prompt_text, sampleable_token_ids
from data.records import Completion, Group, VideoRef
from tests.checkpoints import FRAME_PX
from tests.conftest import moving_frames

N_FRAMES = 3
Kind = str


def load(path: Path) -> tuple[Any, Any]:
    """(model, processor) in float32."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32, attn_implementation="sdpa")
    return model.train(), AutoProcessor.from_pretrained(path)


def random_groups(
    path: Path, completion_lengths: Sequence[Sequence[int]], px: int = FRAME_PX["internvl"], seed: int = 0
) -> tuple[list[Group], list[np.ndarray]]:
    """Groups of random tokens under made-up engine log-probs, the odd ones perturbed, with clean frames."""
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(path)
    rng = np.random.default_rng(seed)
    sampleable, options = sampleable_token_ids(processor), DEFAULT_FRAME_TOKENS.image_options(processor)
    groups, clean = [], []
    for number, lengths in enumerate(completion_lengths):
        frames = moving_frames(N_FRAMES, px, seed=seed + number)
        pictures = [Image.fromarray(f) for f in frames]
        ids = processor(text=[prompt_text(processor, N_FRAMES)], images=pictures, **options)["input_ids"][0]
        perturbation = draw_perturbation(0, 0, 0, f"v{number}", N_FRAMES) if number % 2 else None
        completions = [
            Completion(
                token_ids=rng.choice(sampleable, n).tolist(),
                logprobs=rng.uniform(-7, -5, n).tolist(),
                text="",
                finish_reason="length",
                versions=[0] * n,
            )
            for n in lengths
        ]
        ref = VideoRef(f"v{number}", f"/v{number}.mp4", N_FRAMES, perturbation)
        groups.append(Group(ref, [int(i) for i in ids], completions))
        clean.append(frames)
    return groups, clean


def completion_logprobs(
    model: Any, processor: Any, group: Group, frames: np.ndarray, completion: Completion, temperature: float
) -> Tensor:
    """Log-probs of one completion's tokens, from a forward pass of its own."""
    if group.ref.perturbation is not None:
        frames = perturb(frames, group.ref.perturbation)
    inputs = processor(
        text=[prompt_text(processor, len(frames))],
        images=[Image.fromarray(f) for f in frames],
        return_tensors="pt",
        **DEFAULT_FRAME_TOKENS.image_options(processor),
    )
    prompt = inputs["input_ids"]
    ids = torch.cat([prompt, torch.tensor([completion.token_ids])], 1)
    more = {"image_grid_thw": inputs["image_grid_thw"]} if "image_grid_thw" in inputs else {}
    if "mm_token_type_ids" in inputs:
        rest = torch.zeros(1, len(completion.token_ids), dtype=torch.long)
        more["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], rest], 1)
    logits = model(
        input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=inputs["pixel_values"], **more
    ).logits[0, prompt.shape[1] - 1 : -1]
    barred = torch.ones(logits.shape[-1], dtype=torch.bool)
    barred[sampleable_token_ids(processor)] = False
    logits = (logits / temperature).masked_fill(barred, -torch.inf)
    return logits.log_softmax(-1).gather(-1, torch.tensor(completion.token_ids)[:, None])[:, 0]


def update_loss(
    model: Any,
    reference: Any,
    processor: Any,
    groups: Sequence[Group],
    frames: Sequence[np.ndarray],
    advantages: Sequence[Sequence[float]],
    kl_coefficient: float,
    importance_cap: float,
) -> Tensor:
    """The on-policy GRPO loss of a whole update, mean over completions of the mean over tokens."""
    losses = []
    for group, clean, row in zip(groups, frames, advantages, strict=True):
        for completion, advantage in zip(group.completions, row, strict=True):
            now = completion_logprobs(model, processor, group, clean, completion, 1.0)
            with torch.no_grad():
                base = completion_logprobs(reference, processor, group, clean, completion, 1.0)
            old, engine = now.detach(), torch.tensor(completion.logprobs)
            weight = torch.minimum((old - engine).exp(), torch.tensor(importance_cap))
            d = base - now
            losses.append(
                (-weight * (now - old).exp() * advantage + kl_coefficient * (d.exp() - d - 1)).mean()
            )
    return torch.stack(losses).mean()
