"""Attention over packed groups: each completion attends to its prompt and to itself only.

With a dense mask, SDPA would compute all pairs of the row, most of them masked. Instead, the prompt's causal
self-attention is computed once, and then its completions as a batch. The keys of each completion are the
prompt's and its own, with a causal mask aligned to the lower right, for which CUDA has a flash kernel.
Padding on the right needs no mask, because no real token attends to later positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence

from learner.packing import Span

_NAME = "packed_groups"


def select_attention_kernels() -> None:
    """Enable the same SDPA kernels on every rank: flash, memory-efficient and math.

    cuDNN's kernel is disabled. Importing vLLM's CUDA platform disables it for the whole process anyway, and
    only the rank that sends weights to the engines imports vLLM.
    """
    torch.backends.cuda.enable_flash_sdp(True)
    torch.backends.cuda.enable_mem_efficient_sdp(True)
    torch.backends.cuda.enable_math_sdp(True)
    torch.backends.cuda.enable_cudnn_sdp(False)


def attend_within_groups(model: Any) -> None:
    """Set this attention in a Hugging Face model's text layers. Its forward then accepts `group_spans`."""
    from transformers import AttentionInterface

    AttentionInterface.register(_NAME, group_attention)
    model.set_attn_implementation({"text_config": _NAME})


def group_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    group_spans: Sequence[Span],
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Compute attention, with the signature of transformers' `AttentionInterface`.

    Args:
        query: [1, heads, L, D]; key and value: [1, key heads, L, D].
        group_spans: the groups in the row, in order and without gaps.
    Returns:
        [1, L, heads, D].
    """
    sizes = [span.tokens for span in group_spans]
    groups = zip(*(s[0].transpose(0, 1).split(sizes) for s in (query, key, value)), strict=True)
    attend = partial(
        scaled_dot_product_attention,
        dropout_p=dropout,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    parts = [
        part
        for span, states in zip(group_spans, groups, strict=True)
        for part in _group_parts(attend, span, *states)
    ]
    return torch.cat(parts)[None], None


def _group_parts(
    attend: Callable[..., Tensor], span: Span, query: Tensor, key: Tensor, value: Tensor
) -> list[Tensor]:
    """Return the attention outputs of one group: the prompt's, then each completion's, [tokens, heads, D]
    each."""
    lengths = list(span.completions)
    prompts, owns = zip(*(s.split([span.prompt, sum(lengths)]) for s in (query, key, value)), strict=True)
    prompt = attend(*(s.transpose(0, 1)[None] for s in prompts), is_causal=True)
    own_query, own_key, own_value = (_batch(s, lengths) for s in owns)
    completions = attend(
        own_query,
        _after(prompts[1], own_key),
        _after(prompts[2], own_value),
        attn_mask=causal_lower_right(max(lengths), span.prompt + max(lengths)),
    )
    return [
        prompt[0].transpose(0, 1),
        *(part[:, :n].transpose(0, 1) for part, n in zip(completions, lengths, strict=True)),
    ]


def _batch(states: Tensor, lengths: list[int]) -> Tensor:
    """Pad [sum of lengths, heads, D] to [completions, heads, longest, D]."""
    return pad_sequence(list(states.split(lengths)), batch_first=True).transpose(1, 2)


def _after(prompt: Tensor, own: Tensor) -> Tensor:
    """Prepend the prompt's [P, heads, D] to each completion of `own` [completions, heads, longest, D]."""
    return torch.cat([prompt.transpose(0, 1).expand(len(own), -1, -1, -1), own], dim=2)
