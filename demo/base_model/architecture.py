"""Architecture of the tiny base model: an HF-native InternVL, small enough for one CPU core to sample from.

At this size, training hardly progresses with the usual initialisation (standard deviation 0.02, layer scale
0.1); it works with 0.08 and 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

FRAME_PX = 96
PATCH_PX = 8
N_FRAMES = 4
DOWNSAMPLE_RATIO = 0.5
TOKENS_PER_FRAME = int((FRAME_PX // PATCH_PX * DOWNSAMPLE_RATIO) ** 2)
HIDDEN = 128
HEADS = 4  # of dimension 32 each, the smallest that vLLM's CPU attention supports
VISION_LAYERS = 3
TEXT_LAYERS = 3
PIXEL_MEAN = 0.45
PIXEL_STD = 0.25
MAX_TOKENS = 1024
ROPE_THETA = 10_000.0


def build_config(tokenizer: Any) -> Any:
    """Build the `InternVLConfig` for `tokenizer`, whose vocabulary size is rounded up to a multiple of 64."""
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
            "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA},
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


def pixel_values(frames: np.ndarray) -> torch.Tensor:
    """Normalise frames as the image processor does. They must already have the model's frame size.

    Args:
        frames: uint8 [..., FRAME_PX, FRAME_PX, 3].

    Returns:
        Float32 [n, 3, FRAME_PX, FRAME_PX], with the leading axes flattened.
    """
    flat = torch.from_numpy(np.ascontiguousarray(frames)).reshape(-1, FRAME_PX, FRAME_PX, 3)
    scaled = flat.permute(0, 3, 1, 2).to(torch.float32) / 255
    return (scaled - PIXEL_MEAN) / PIXEL_STD
