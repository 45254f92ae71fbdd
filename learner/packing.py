"""Laying out groups as token rows for one forward pass. Pure torch.

Unpacked, each completion has a row with its own copy of the prompt. Packed, all groups share one row without
padding: a prompt, its completions one after another, the next prompt. Each completion attends to its prompt
and to itself (`learner.group_attention`), and its positions continue the prompt's, so that it sees exactly
what it would see alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TokenGroup:
    """Token ids of a prompt (image placeholders expanded) and of completions sampled from it."""

    prompt: list[int]
    completions: list[list[int]]


@dataclass(frozen=True, slots=True)
class Span:
    """The tokens of one group in a packed row: of its prompt and of each completion behind it."""

    prompt: int
    completions: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return self.prompt + sum(self.completions)


@dataclass(frozen=True, slots=True)
class Rows:
    """Token rows and where their completions' log-probs are read.

    Packed, `input_ids` is one row [1, L] that consists of the groups in `spans`, and `positions` [1, L]
    counts from 0 in each of them. Unpacked, rows [B, L] are right-padded and `attention_mask` [B, L] int64
    says what is no padding; a model derives the positions itself. `predictors` holds, for each completion
    token in the order group, completion, token, the index into the flattened [B * L] hidden states of the
    position that predicts it; `targets` its token id; both [N].
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    positions: Tensor | None
    spans: tuple[Span, ...]
    predictors: Tensor
    targets: Tensor

    @property
    def tokens(self) -> int:
        """Positions that are no padding."""
        return int(self.input_ids.numel() if self.attention_mask is None else self.attention_mask.sum())

    def to(self, device: torch.device) -> Rows:
        def there(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device)

        return replace(
            self,
            input_ids=self.input_ids.to(device),
            attention_mask=there(self.attention_mask),
            positions=there(self.positions),
            predictors=self.predictors.to(device),
            targets=self.targets.to(device),
        )


def pack_groups(groups: Sequence[TokenGroup]) -> Rows:
    """One row of len(prompt) + sum of completion lengths tokens a group."""
    ids: list[int] = []
    positions: list[Tensor] = []
    predictors: list[Tensor] = []
    spans: list[Span] = []
    for group in groups:
        n_prompt = len(group.prompt)
        last_of_prompt = len(ids) + n_prompt - 1
        ids += group.prompt
        positions.append(torch.arange(n_prompt))
        for completion in group.completions:
            # The first token is predicted from the prompt's last position, which all completions share.
            predictors += [torch.tensor([last_of_prompt]), len(ids) + torch.arange(len(completion) - 1)]
            positions.append(n_prompt + torch.arange(len(completion)))
            ids += completion
        spans.append(Span(n_prompt, tuple(map(len, group.completions))))
    return Rows(
        input_ids=torch.tensor([ids]),
        attention_mask=None,
        positions=torch.cat(positions)[None],
        spans=tuple(spans),
        predictors=torch.cat(predictors),
        targets=_targets(groups),
    )


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
    return Rows(ids, mask, None, (), torch.cat(predictors), _targets(groups))


def follow_prompt(inline: Tensor, positions: Tensor, spans: Sequence[Span]) -> Tensor:
    """M-RoPE positions of a packed row, in which every completion continues its prompt.

    Args:
        inline: [3, 1, L], the model's own for the same ids, where each part follows the one before.
        positions: [1, L], of `pack_groups`.
    Returns:
        [3, 1, L]; each group counts from 0, and a token moves back by as many places as there are tokens
        between the prompt and its completion.
    """
    sizes = torch.tensor([span.tokens for span in spans], device=positions.device)
    starts = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    between = torch.arange(len(starts), device=positions.device) - starts - positions
    return inline - inline[..., starts] - between


def _targets(groups: Sequence[TokenGroup]) -> Tensor:
    return torch.tensor([t for g in groups for c in g.completions for t in c], dtype=torch.long)
