"""Shape and initialisation of the tiny base: an HF-native InternVL that one CPU core can sample from.

At this size the usual initialisation (0.02, layer scale 0.1) learns next to nothing; 0.08 and 1 do. The
patch embedding starts as the DCT basis of an 8x8 block, the representation in which compression, blur and
noise are easiest to tell apart.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import torch

FRAME_PX = 96
PATCH_PX = 8
N_FRAMES = 4
DOWNSAMPLE_RATIO = 0.5
TOKENS_PER_FRAME = int((FRAME_PX // PATCH_PX * DOWNSAMPLE_RATIO) ** 2)
HIDDEN = 128
HEADS = 4  # of 32 each: the smallest head vLLM's CPU attention serves
VISION_LAYERS = 4
TEXT_LAYERS = 3
PIXEL_MEAN = 0.45
PIXEL_STD = 0.25
MAX_TOKENS = 512

_LUMA = (0.299, 0.587, 0.114)
_BLUE_CHROMA = (-0.169, -0.331, 0.5)
_RED_CHROMA = (0.5, -0.419, -0.081)


def build_config(tokenizer: Any) -> Any:
    """The `InternVLConfig` that goes with `tokenizer` (its vocabulary is padded to a multiple of 64)."""
    from transformers import InternVLConfig

    return InternVLConfig(
        vision_config={
            "hidden_size": HIDDEN,
            "num_hidden_layers": VISION_LAYERS,
            "num_attention_heads": HEADS,
            "intermediate_size": 2 * HIDDEN,
            "image_size": [FRAME_PX, FRAME_PX],
            "patch_size": [PATCH_PX, PATCH_PX],
            "attention_bias": True,
            "norm_type": "layer_norm",
            "use_mean_pooling": True,
            "initializer_range": 0.08,
            "layer_scale_init_value": 1.0,
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": math.ceil(len(tokenizer) / 64) * 64,
            "hidden_size": HIDDEN,
            "num_hidden_layers": TEXT_LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS // 2,
            "intermediate_size": 2 * HIDDEN,
            "max_position_embeddings": MAX_TOKENS,
            "initializer_range": 0.08,
            "tie_word_embeddings": False,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=TOKENS_PER_FRAME,
        downsample_ratio=DOWNSAMPLE_RATIO,
        tie_word_embeddings=False,
    )


def build_model(tokenizer: Any, seed: int) -> Any:
    """A freshly initialised `InternVLForConditionalGeneration` in float32; the same seed, the same weights."""
    from transformers import InternVLForConditionalGeneration

    torch.manual_seed(seed)
    model = InternVLForConditionalGeneration(build_config(tokenizer)).float()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    projection = model.model.vision_tower.embeddings.patch_embeddings.projection
    with torch.no_grad():
        projection.weight.copy_(dct_patch_embedding(HIDDEN, PATCH_PX))
        projection.bias.zero_()
    return model


def dct_patch_embedding(n_filters: int, patch_px: int) -> torch.Tensor:
    """Filters of a patch embedding that compute the patch's DCT: all of luma, then the low half of chroma.

    Half of the filters are luma, a quarter each is blue and red chroma, ordered by frequency; high
    frequencies, which are small in natural images and tell the distortions apart, are amplified.

    Returns:
        Float tensor [n_filters, 3, patch_px, patch_px].
    """
    position = torch.arange(patch_px) + 0.5
    frequency = torch.arange(patch_px)
    basis = torch.cos(math.pi * frequency[:, None] * position[None, :] / patch_px) * math.sqrt(2 / patch_px)
    basis[0] = math.sqrt(1 / patch_px)
    order = sorted(((u, v) for u in range(patch_px) for v in range(patch_px)), key=lambda uv: (uv[0] + uv[1], uv))
    half, quarter = n_filters // 2, n_filters // 4
    plan = [(_LUMA, uv) for uv in order[:half]]
    plan += [(_BLUE_CHROMA, uv) for uv in order[:quarter]]
    plan += [(_RED_CHROMA, uv) for uv in order[:quarter]]
    filters = [
        torch.tensor(colour)[:, None, None] * torch.outer(basis[u], basis[v]) * (0.3 + u + v)
        for colour, (u, v) in plan
    ]
    return torch.stack(filters)


def pixel_values(frames: np.ndarray) -> torch.Tensor:
    """What the image processor makes of frames of the model's own size.

    Args:
        frames: uint8 [..., FRAME_PX, FRAME_PX, 3].

    Returns:
        Float32 [n, 3, FRAME_PX, FRAME_PX], the leading axes flattened.
    """
    flat = torch.from_numpy(np.ascontiguousarray(frames)).reshape(-1, FRAME_PX, FRAME_PX, 3)
    scaled = flat.permute(0, 3, 1, 2).to(torch.float32) / 255
    return cast(torch.Tensor, (scaled - PIXEL_MEAN) / PIXEL_STD)
