"""Initialise the tiny base model: random weights, except for two parts that are constructed.

The patch embedding starts as the DCT basis of an 8x8 block, in which compression, blur and noise differ
most. Two attention heads of the first text layer start by computing the difference between each image token
and the token at the same position in the previous frame, which is zero if the picture does not change.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from demo.base_model.architecture import HEADS, HIDDEN, PATCH_PX, ROPE_THETA, build_config

_LUMA = (0.299, 0.587, 0.114)
_BLUE_CHROMA = (-0.169, -0.331, 0.5)
_RED_CHROMA = (0.5, -0.419, -0.081)
# Norm of the position vectors of the subtracting heads, large enough for softmax to select a single token.
_POSITION_NORM = 7.0


def build_model(tokenizer: Any, frame_stride: int, seed: int) -> Any:
    """Build an `InternVLForConditionalGeneration` in float32. The same seed gives the same weights.

    Args:
        frame_stride: distance in tokens between the start of one frame and of the next in the prompt.
    """
    from transformers import InternVLForConditionalGeneration

    torch.manual_seed(seed)
    model = InternVLForConditionalGeneration(build_config(tokenizer)).float()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    projection = model.model.vision_tower.embeddings.patch_embeddings.projection
    with torch.no_grad():
        projection.weight.copy_(dct_patch_embedding(HIDDEN, PATCH_PX))
        projection.bias.zero_()
        _subtract_frame_before(model.model.language_model.layers[0].self_attn, frame_stride)
    return model


def _subtract_frame_before(attention: Any, frame_stride: int) -> None:
    """Make heads 0 and 1, which share keys and values, output the difference of two tokens' values.

    Head 0 attends to the token `frame_stride` positions before, head 1 to the token itself. The tokens'
    content has no influence: queries and keys consist of biases only. With rotary position embeddings, their
    product depends only on the distance, and peaks at the wanted one.
    """
    size = HIDDEN // HEADS
    frequency = ROPE_THETA ** (-torch.arange(0, size, 2) / size)
    for head, distance in enumerate((frame_stride, 0)):
        rows = slice(head * size, (head + 1) * size)
        attention.q_proj.weight[rows] = 0
        angle = -distance * frequency
        attention.q_proj.bias[rows] = _POSITION_NORM * torch.cat([angle.cos(), angle.sin()])
    attention.k_proj.weight[:size] = 0
    attention.k_proj.bias[:size] = _POSITION_NORM * (torch.arange(size) < size // 2)
    attention.o_proj.weight[:, size : 2 * size] = -attention.o_proj.weight[:, :size]


def dct_patch_embedding(n_filters: int, patch_px: int) -> torch.Tensor:
    """Build the filters of a patch embedding that compute the DCT of each patch.

    Half of the filters are for luma, a quarter each for the lower frequencies of blue and red chroma; each
    part is ordered by frequency. High frequencies are amplified, because they are small in natural images but
    distinguish the distortions.

    Returns:
        Float tensor [n_filters, 3, patch_px, patch_px].
    """
    position = torch.arange(patch_px) + 0.5
    frequency = torch.arange(patch_px)
    basis = torch.cos(math.pi * frequency[:, None] * position[None, :] / patch_px) * math.sqrt(2 / patch_px)
    basis[0] = math.sqrt(1 / patch_px)
    order = sorted(
        ((u, v) for u in range(patch_px) for v in range(patch_px)), key=lambda uv: (uv[0] + uv[1], uv)
    )
    half, quarter = n_filters // 2, n_filters // 4
    plan = [(_LUMA, uv) for uv in order[:half]]
    plan += [(_BLUE_CHROMA, uv) for uv in order[:quarter]]
    plan += [(_RED_CHROMA, uv) for uv in order[:quarter]]
    filters = [
        torch.tensor(colour)[:, None, None] * torch.outer(basis[u], basis[v]) * (0.3 + u + v)
        for colour, (u, v) in plan
    ]
    return torch.stack(filters)
