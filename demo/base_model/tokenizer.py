"""Build tokenizer, chat template and processor of the tiny base model.

The tokenizer is a byte-level BPE, trained on the prompt and on every trace until each word is one token. Each
digit is one token, so a score always has the tokens `digit . digit digit`. The four tags are ordinary added
tokens, not special tokens, so that decoding with `skip_special_tokens` keeps them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from data.prompt import FORMAT, QUESTION, TASK
from demo.base_model.architecture import FRAME_PX, MAX_TOKENS, PIXEL_MEAN, PIXEL_STD, TOKENS_PER_FRAME

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
END_OF_TURN = "<|im_end|>"
PADDING = "<|endoftext|>"
_TURN_TOKENS = (PADDING, "<|im_start|>", END_OF_TURN)
_VISION_TOKENS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
# Split text as Qwen2 does: words with their leading space, single digits, runs of punctuation.
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<IMG_CONTEXT>\n"
    "{% elif part['type'] == 'video' %}<video>\n"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer(corpus: Iterable[str]) -> Any:
    """Train a `PreTrainedTokenizerFast` in which every word of `corpus` and of the prompt is one token."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    prompt = f"user\nassistant\nFrame1: \n{TASK} {QUESTION} {FORMAT}"
    text = [re.sub("|".join(TAGS), "\n", line) for line in (prompt, *corpus)]
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(text, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=END_OF_TURN,
        pad_token=PADDING,
        extra_special_tokens=_VISION_TOKENS,
        model_max_length=MAX_TOKENS,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [*_TURN_TOKENS, *_VISION_TOKENS.values()]})
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in TAGS])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_processor(tokenizer: Any) -> Any:
    """Build the `InternVLProcessor`. It allows up to 12 tiles per frame, as published InternVL checkpoints,
    and does not resize frames that have the model's frame size."""
    from transformers import GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor

    size = {"height": FRAME_PX, "width": FRAME_PX}
    mean_std = {"image_mean": [PIXEL_MEAN] * 3, "image_std": [PIXEL_STD] * 3}
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(
            size=size, crop_to_patches=False, min_patches=1, max_patches=12, **mean_std
        ),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=size, do_sample_frames=False, **mean_std),
        image_seq_length=TOKENS_PER_FRAME,
        chat_template=CHAT_TEMPLATE,
    )
