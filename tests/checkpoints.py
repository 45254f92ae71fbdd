"""Tiny vision-language checkpoints with random weights, for tests that need a real model and no good one."""

from pathlib import Path
from typing import Any, Literal

Kind = Literal["internvl", "qwen3_vl"]

_CHAT_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_SPECIALS = {
    "internvl": [*_CHAT_TOKENS, "<IMG_CONTEXT>", "<img>", "</img>", "<video>"],
    "qwen3_vl": [
        *_CHAT_TOKENS,
        *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
    ],
}
_IMAGE = {
    "internvl": "<IMG_CONTEXT>\n",
    "qwen3_vl": "<|vision_start|><|image_pad|><|vision_end|>",
}
_CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 4096,
}

# Pixels a side of a frame that becomes 2 x 2 image tokens, without resizing.
FRAME_PX = {"internvl": 56, "qwen3_vl": 64}


def make_checkpoint(kind: Kind, out: Path, seed: int = 0, tie_word_embeddings: bool = False) -> Path:
    """Write a random model of 0.2 M parameters with tokenizer, processor and chat template to `out`.

    Weights are larger than at a usual initialisation, so that log-probs visibly depend on the frames.
    Returns `out`.
    """
    import torch

    tokenizer = _tokenizer(kind)
    build = _internvl if kind == "internvl" else _qwen3_vl
    torch.manual_seed(seed)
    model, processor = build(tokenizer, tie_word_embeddings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                scale = 0.5 if "embed" in name else 0.15
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(out)
    processor.save_pretrained(out)
    return out


def _tokenizer(kind: Kind) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    corpus = [
        f"<think>The video is sharp with little blur and noise.</think><answer>{score / 100:.2f}</answer>"
        for score in range(100, 500, 7)
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=480, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    named = {}
    if kind == "internvl":
        named["extra_special_tokens"] = {
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        }
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", **named
    )
    fast.add_special_tokens({"additional_special_tokens": _SPECIALS[kind]})
    fast.chat_template = _CHAT_TEMPLATE.replace("IMAGE", _IMAGE[kind])
    return fast


def _text_config(tokenizer: Any, tie_word_embeddings: bool) -> dict[str, Any]:
    return _TEXT | {
        "vocab_size": (len(tokenizer) + 63) // 64 * 64,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": tie_word_embeddings,
    }


def _internvl(tokenizer: Any, tie_word_embeddings: bool) -> tuple[Any, Any]:
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
    )

    px = FRAME_PX["internvl"]
    config = InternVLConfig(
        vision_config={
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 128,
            "image_size": [px, px],
            "patch_size": [14, 14],
            "attention_bias": True,
            "use_mean_pooling": True,
            "norm_type": "layer_norm",
        },
        text_config={"model_type": "qwen2"} | _text_config(tokenizer, tie_word_embeddings),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        downsample_ratio=0.5,
        tie_word_embeddings=tie_word_embeddings,
    )
    size = {"height": px, "width": px}
    processor = InternVLProcessor(
        # Tiles as published checkpoints have them.
        image_processor=GotOcr2ImageProcessor(
            size=size, crop_to_patches=False, min_patches=1, max_patches=12
        ),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=size, do_sample_frames=False),
        image_seq_length=4,
        chat_template=tokenizer.chat_template,
    )
    return InternVLForConditionalGeneration(config).float().eval(), processor


def _qwen3_vl(tokenizer: Any, tie_word_embeddings: bool) -> tuple[Any, Any]:
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in _SPECIALS["qwen3_vl"]}
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [6, 5, 5], "mrope_interleaved": True}
    config = Qwen3VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        text_config=_text_config(tokenizer, tie_word_embeddings) | {"head_dim": 32, "rope_parameters": rope},
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=tie_word_embeddings,
    )
    sizes = {
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "size": {"shortest_edge": 32 * 32 * 4, "longest_edge": 32 * 32 * 64},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**sizes),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(**sizes, do_sample_frames=False),
        chat_template=tokenizer.chat_template,
    )
    return Qwen3VLForConditionalGeneration(config).float().eval(), processor
