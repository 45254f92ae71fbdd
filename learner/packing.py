"""Builds the token rows of one forward pass from groups. Pure torch.

Unpacked, each completion has its own row with a copy of the prompt. Packed, all groups share one row without
padding: a prompt, its completions one after another, then the next prompt. Each completion attends to its
prompt and itself only (`learner.group_attention`), and its position ids continue the prompt's. So its
log-probs are the same as in a row of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TokenGroup:
    """Token ids of a prompt (with image placeholders expanded) and of the completions sampled for it."""

    prompt: list[int]
    completions: list[list[int]]


@dataclass(frozen=True, slots=True)
class Span:
    """The token counts of one group in a packed row: of the prompt, and of each completion after it."""

    prompt: int
    completions: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return self.prompt + sum(self.completions)


@dataclass(frozen=True, slots=True)
class Rows:
    """Token rows, and the positions that predict the completion tokens.

    Packed: `input_ids` is one row [1, L] made of the groups in `spans`; the position ids `positions` [1, L]
    start at 0 in each group. Unpacked: the rows [B, L] are right-padded; `attention_mask` [B, L] int64 is 0
    at padding, and the model derives the position ids itself.

    `predictors` and `targets` [N] have one entry per completion token, in the order group, completion, token.
    `predictors`: index into the flattened hidden states [B * L] of the position that predicts the token.
    `targets`: the token's id.
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    positions: Tensor | None
    spans: tuple[Span, ...]
    predictors: Tensor
    targets: Tensor

    @property
    def tokens(self) -> int:
        """Number of positions that are not padding."""
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
    """Build one row; each group takes the length of its prompt plus the lengths of its completions."""
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
            # The prompt's last position predicts the first token of every completion.
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
    """Build one row per completion. Packing must give the same log-probs."""
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
    """Return the M-RoPE position ids of a packed row, in which every completion continues its prompt.

    Args:
        inline: [3, 1, L], the position ids that the model computes for the whole row as one sequence.
        positions: [1, L], the position ids from `pack_groups`.
    Returns:
        [3, 1, L]; position ids start at 0 in each group. Those of a completion are reduced by the number of
        tokens between the prompt and that completion.
    """
    sizes = torch.tensor([span.tokens for span in spans], device=positions.device)
    starts = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    between = torch.arange(len(starts), device=positions.device) - starts - positions
    return inline - inline[..., starts] - between


def _targets(groups: Sequence[TokenGroup]) -> Tensor:
    return torch.tensor([t for g in groups for c in g.completions for t in c], dtype=torch.long)
