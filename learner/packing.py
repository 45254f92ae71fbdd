"""Laying out groups as token rows for one forward pass. Pure torch.

Unpacked, each completion has a row with its own copy of the prompt. Packed, a group is one row: the prompt,
then its completions one after another. Each completion attends to the prompt and to itself, and its positions
go on from the prompt's, so that it sees exactly what it would see alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_PADDING = -1
_PROMPT = 0


@dataclass(frozen=True, slots=True)
class TokenGroup:
    """Token ids of a prompt (image placeholders expanded) and of completions sampled from it."""

    prompt: list[int]
    completions: list[list[int]]


@dataclass(frozen=True, slots=True)
class Rows:
    """Token rows, right-padded, and where their completions' log-probs are read.

    `attention_mask` is int64 [B, L] (unpacked) or bool [B, 1, L, L], True where a query may look (packed).
    `positions` is None where a model derives positions itself. `predictors` holds, for each completion token
    in the order group, completion, token, the index into the flattened [B * L] hidden states of the position
    that predicts it; `targets` its token id; both [N].
    """

    input_ids: Tensor
    attention_mask: Tensor
    positions: Tensor | None
    predictors: Tensor
    targets: Tensor


def pack_groups(groups: Sequence[TokenGroup], pad_id: int) -> Rows:
    """One row a group. Costs len(prompt) + sum of completion lengths tokens a row, before padding."""
    length = max(packed_length(g) for g in groups)
    shape = (len(groups), length)
    ids = torch.full(shape, pad_id)
    positions = torch.zeros(shape, dtype=torch.long)
    segments = torch.full(shape, _PADDING)
    predictors: list[Tensor] = []
    for row, group in enumerate(groups):
        n_prompt = len(group.prompt)
        n = packed_length(group)
        ids[row, :n] = torch.tensor(group.prompt + [t for c in group.completions for t in c])
        positions[row, :n_prompt] = torch.arange(n_prompt)
        segments[row, :n_prompt] = _PROMPT
        start = n_prompt
        for number, completion in enumerate(group.completions, start=1):
            end = start + len(completion)
            positions[row, start:end] = n_prompt + torch.arange(len(completion))
            segments[row, start:end] = number
            # The first token is predicted from the prompt's last position, which all completions share.
            before = torch.arange(start - 1, end - 1)
            before[:1] = n_prompt - 1
            predictors.append(row * length + before)
            start = end
    return Rows(ids, block_mask(segments), positions, torch.cat(predictors), _targets(groups))


def unpack_groups(groups: Sequence[TokenGroup], pad_id: int) -> Rows:
    """One row a completion, the reference that packing must equal."""
    rows = [(g.prompt, c) for g in groups for c in g.completions]
    length = max(len(p) + len(c) for p, c in rows)
    ids = torch.full((len(rows), length), pad_id)
    mask = torch.zeros((len(rows), length), dtype=torch.long)
    predictors: list[Tensor] = []
    for row, (prompt, completion) in enumerate(rows):
        n = len(prompt) + len(completion)
        ids[row, :n] = torch.tensor(prompt + completion)
        mask[row, :n] = 1
        predictors.append(row * length + torch.arange(len(prompt) - 1, n - 1))
    return Rows(ids, mask, None, torch.cat(predictors), _targets(groups))


def block_mask(segments: Tensor) -> Tensor:
    """Who may look at whom, from segment numbers [B, L] (0 prompt, 1.. completions, -1 padding).

    Returns bool [B, 1, L, L]: causal, within the same segment or back to the prompt. Padding looks at itself,
    for a query that may look nowhere yields NaN.
    """
    length = segments.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    query, key = segments[:, :, None], segments[:, None, :]
    visible = causal & ((key == _PROMPT) | (key == query)) & (query != _PADDING)
    visible |= torch.eye(length, dtype=torch.bool, device=segments.device)
    return visible[:, None]


def follow_prompt(inline: Tensor, positions: Tensor) -> Tensor:
    """M-RoPE positions of packed rows, in which every completion goes on from the prompt.

    Args:
        inline: [3, B, L], the model's own for the same ids, where each completion follows the one before.
        positions: [B, L], of `pack_groups`.
    Returns:
        [3, B, L]; a token moves back by as many places as there are tokens between the prompt and its
        completion. An image takes up fewer positions than tokens, so padding is kept from falling below 0.
    """
    between = torch.arange(positions.shape[1], device=positions.device) - positions
    return (inline - between).clamp_min(0)


def packed_length(group: TokenGroup) -> int:
    """Tokens of the group's packed row."""
    return len(group.prompt) + sum(map(len, group.completions))


def _targets(groups: Sequence[TokenGroup]) -> Tensor:
    return torch.tensor([t for g in groups for c in g.completions for t in c], dtype=torch.long)
