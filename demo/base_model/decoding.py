"""Compute logits of several answers to one video with a shared prompt, and sample answers.

A video's frames pass through the vision tower once. In training, its prompt passes through the text model
once, and all answers attend to the prompt's keys and values. Gradients flow through this shared part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from data.prompt import prompt_text, sampleable_token_ids
from demo.base_model.architecture import FRAME_PX, pixel_values

MAX_ANSWER_TOKENS = 26


def prompt_token_ids(processor: Any, n_frames: int) -> Tensor:
    """The prompt for a video of `n_frames` as token ids [n_tokens], with expanded image placeholders."""
    blank = [np.zeros((FRAME_PX, FRAME_PX, 3), dtype=np.uint8)] * n_frames
    batch = processor(text=[prompt_text(processor, n_frames)], images=blank, return_tensors="pt")
    return cast(Tensor, batch["input_ids"][0])


def frame_stride(processor: Any) -> int:
    """The distance in tokens from the start of one frame to that of the next, equal for all frames."""
    starts = (prompt_token_ids(processor, 2) == processor.start_image_token_id).nonzero().flatten().tolist()
    return int(starts[1] - starts[0])


def embed_prompts(model: Any, prompt_ids: Tensor, frames: np.ndarray) -> Tensor:
    """Embed prompts, with the features of their frames inserted: [n_videos, n_prompt_tokens, hidden].

    Args:
        prompt_ids: [n_prompt_tokens], the same for all videos.
        frames: uint8 [n_videos, n_frames, FRAME_PX, FRAME_PX, 3].
    """
    return place_features(model, prompt_ids, frame_features(model, frames))


def frame_features(model: Any, frames: np.ndarray) -> Tensor:
    """Compute features of frames [n_videos, ...] for the text model: [n_videos, n_image_tokens, hidden]."""
    features = model.model.get_image_features(pixel_values=pixel_values(frames)).pooler_output
    return cast(Tensor, features.reshape(len(frames), -1, features.shape[-1]))


def place_features(model: Any, prompt_ids: Tensor, features: Tensor) -> Tensor:
    """Embed prompts, with `features` from `frame_features` inserted: [n_videos, n_prompt_tokens, hidden]."""
    embedded = model.get_input_embeddings()(prompt_ids).expand(len(features), -1, -1)
    is_image = (prompt_ids == model.config.image_token_id).expand(len(features), -1).unsqueeze(-1)
    return embedded.masked_scatter(is_image, features)


def encode_answers(tokenizer: Any, answers: Sequence[str]) -> Tensor:
    """Tokenize answers to ids [n, n_tokens]; each ends with the end-of-turn token and is right-padded."""
    closed = [answer + tokenizer.eos_token for answer in answers]
    return cast(Tensor, tokenizer(closed, padding=True, return_tensors="pt")["input_ids"])


def answer_logits(model: Any, prompts: Tensor, answers: Tensor) -> Tensor:
    """Compute the logits of each answer token, given the prompt and the preceding answer tokens.

    Args:
        prompts: [n_videos, n_prompt_tokens, hidden] from `embed_prompts`.
        answers: ids [n_videos, n_answers, n_tokens].

    Returns:
        [n_videos, n_answers, n_tokens, vocabulary].
    """
    n_videos, n_answers, n_tokens = answers.shape
    shared = model.model.language_model(inputs_embeds=prompts, use_cache=True)
    first = shared.last_hidden_state[:, -1:].repeat_interleave(n_answers, 0)
    cache = shared.past_key_values
    cache.batch_repeat_interleave(n_answers)
    embedded = model.get_input_embeddings()(answers.reshape(n_videos * n_answers, n_tokens)[:, :-1])
    rest = model.model.language_model(inputs_embeds=embedded, past_key_values=cache, use_cache=True)
    hidden = torch.cat([first, rest.last_hidden_state], 1)
    return cast(Tensor, model.lm_head(hidden)).reshape(n_videos, n_answers, n_tokens, -1)


def sample_answers(model: Any, processor: Any, prompts: Tensor, n_answers: int, temperature: float) -> Tensor:
    """Sample answers as ids [n_videos, n_answers, n_tokens], padded after the end of turn.

    `temperature` 0 decodes greedily; otherwise torch's global generator is used. Vision placeholders are
    never sampled.
    """
    allowed = set(sampleable_token_ids(processor))
    drawn = model.generate(
        inputs_embeds=prompts,
        attention_mask=torch.ones(prompts.shape[:2], dtype=torch.long),
        max_new_tokens=MAX_ANSWER_TOKENS,
        num_return_sequences=n_answers,
        suppress_tokens=[i for i in range(model.config.text_config.vocab_size) if i not in allowed],
        **(
            {"do_sample": True, "temperature": temperature, "top_k": 0}
            if temperature
            else {"do_sample": False}
        ),
    )
    return cast(Tensor, drawn.reshape(len(prompts), n_answers, -1))
