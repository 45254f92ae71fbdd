"""The prompt of a video: its frames as images, the task, the question and the answer's format.

The parts are those of VQAThinker. The wording is the same for every model. Frames are passed as single
images, because vLLM and transformers treat those alike for every model family.
"""

from __future__ import annotations

import re
from typing import Any

TASK = "You are doing the video quality assessment task."
QUESTION = (
    "Rate the overall quality of this video with a float "
    "from 1 (very poor) to 5 (excellent), rounded to two decimals."
)
ANSWER_FORMAT = "First think in <think> </think> tags, then give {} in <answer> </answer> tags."
FORMAT = ANSWER_FORMAT.format("only the rating")

# Placeholders for pixels, and their delimiters: `<IMG_CONTEXT>`, `<img>`, `</img>`, `<video>` (InternVL),
# `<|image_pad|>`, `<|video_pad|>`, `<|vision_start|>` (Qwen-VL), `<image>`, `<image_soft_token>` (others).
_VISION_PLACEHOLDER = re.compile(r"<[|/]*(img|image|images|video|vision)(?![a-z])", re.IGNORECASE)


def messages(n_frames: int, question: str | None = None, n_videos: int = 1) -> list[dict[str, Any]]:
    """Build the chat about one or several videos.

    It has one user turn: `n_frames` image entries in the order of the frames, equally many per video, then
    the question (default: the rating question).

    Raises:
        ValueError: if `n_frames` is below 1 or not a multiple of `n_videos`, or if the question contains an
            image placeholder.
    """
    if n_frames < 1:
        raise ValueError(f"n_frames is {n_frames}: a prompt needs at least 1 frame")
    if n_frames % n_videos:
        raise ValueError(f"{n_frames} frames are not the same number for each of {n_videos} videos")
    if placeholder := _VISION_PLACEHOLDER.search(question or ""):
        raise ValueError(f"the question contains '{placeholder[0]}', the placeholder of a frame: remove it")
    content: list[dict[str, str]] = []
    for video in range(1, n_videos + 1):
        title = f"Video {video} " if n_videos > 1 else ""
        for number in range(1, n_frames // n_videos + 1):
            content.append({"type": "text", "text": f"{title}Frame{number}: "})
            content.append({"type": "image"})
    content.append({"type": "text", "text": f"{TASK} {question or f'{QUESTION} {FORMAT}'}"})
    return [{"role": "user", "content": content}]


def prompt_text(processor: Any, n_frames: int, question: str | None = None, n_videos: int = 1) -> str:
    """Return the prompt as text, with one image placeholder per frame, up to where the model's answer begins.

    Args:
        processor: a transformers processor (`AutoProcessor`) with a chat template.
        n_frames: total number of frames of all videos.
        question: the question and the answer's format; default: the rating question.
        n_videos: number of videos, each with an equal share of the frames.

    Raises:
        ValueError: if the processor has no chat template.
    """
    if getattr(processor, "chat_template", None) is None:
        raise ValueError(
            f"{type(processor).__name__} has no chat template: add chat_template.jinja to the model's folder"
        )
    chat = messages(n_frames, question, n_videos)
    text: str = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    # Qwen3.5's template already opens the reasoning. Remove the tag, because the format asks the model to
    # write it.
    return text.removesuffix("<think>\n")


def unsampleable_token_ids(processor_or_tokenizer: Any) -> list[int]:
    """Return the ids of all vision placeholders in the vocabulary, ascending. They must never be sampled.

    A sampled placeholder would refer to a frame that does not exist, and the learner's forward pass would
    fail. The ids come from matching names in the added vocabulary and from the processor's `*_token_id`
    attributes.
    """
    tokenizer = _tokenizer(processor_or_tokenizer)
    ids = {id_ for token, id_ in tokenizer.get_added_vocab().items() if _VISION_PLACEHOLDER.match(token)}
    own_id = re.compile(r"(image|video|vision)_(.*_)?token_id$")
    for name, value in vars(processor_or_tokenizer).items():
        if own_id.search(name) and isinstance(value, int):
            ids.add(value)
    return sorted(ids)


def sampleable_token_ids(processor_or_tokenizer: Any) -> list[int]:
    """Return the ids that a model may sample, ascending: the tokenizer's ids without vision placeholders.

    Padding rows of the vocabulary belong to no token and are excluded.
    """
    tokenizer = _tokenizer(processor_or_tokenizer)
    barred = set(unsampleable_token_ids(processor_or_tokenizer))
    return sorted(id_ for id_ in set(tokenizer.get_vocab().values()) if id_ not in barred)


def _tokenizer(processor_or_tokenizer: Any) -> Any:
    return getattr(processor_or_tokenizer, "tokenizer", processor_or_tokenizer)
