"""Who computes what: groups over ranks, and groups or parts of groups over forward passes. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from data.records import Group


@dataclass(frozen=True, slots=True)
class Piece:
    """Some completions of one group, computed together. `tokens` is what they cost in a forward pass:
    the length of the packed row, or rows times the longest row."""

    group: int
    completions: tuple[int, ...]
    rows: int
    row_tokens: int

    @property
    def tokens(self) -> int:
        return self.rows * self.row_tokens


def spread(costs: Sequence[float], ranks: int) -> list[list[int]]:
    """Assign items to ranks, heaviest first, each to the rank with the least so far.

    Returns the item indices of each rank, ascending. Deterministic; a rank may get none when there are fewer
    items than ranks.
    """
    loads = [(0.0, rank) for rank in range(ranks)]
    assigned: list[list[int]] = [[] for _ in range(ranks)]
    for item in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        load, rank = heapq.heappop(loads)
        assigned[rank].append(item)
        heapq.heappush(loads, (load + costs[item], rank))
    return [sorted(items) for items in assigned]


def plan_batches(groups: Sequence[Group], budget: int, packed: bool) -> list[list[Piece]]:
    """The forward passes that `groups` take, of at most `budget` tokens each."""
    pieces = [
        piece
        for index, group in enumerate(groups)
        for piece in split_group(
            index, len(group.prompt_token_ids), [len(c.token_ids) for c in group.completions], budget, packed
        )
    ]
    return fill_batches(pieces, budget, packed)


def split_group(
    group: int, prompt_tokens: int, completion_tokens: Sequence[int], budget: int, packed: bool
) -> list[Piece]:
    """Cut a group into pieces of at most `budget` tokens; a single completion above it goes alone."""
    pieces: list[Piece] = []
    members: list[int] = []
    for index in range(len(completion_tokens)):
        wider = _piece(group, prompt_tokens, completion_tokens, [*members, index], packed)
        if members and wider.tokens > budget:
            pieces.append(_piece(group, prompt_tokens, completion_tokens, members, packed))
            members = []
        members.append(index)
    if members:
        pieces.append(_piece(group, prompt_tokens, completion_tokens, members, packed))
    return pieces


def fill_batches(pieces: Sequence[Piece], budget: int, packed: bool) -> list[list[Piece]]:
    """Batches of at most `budget` tokens, padding included: each piece, largest first, goes where it fits."""
    batches: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda p: (-p.row_tokens, p.group, p.completions)):
        for batch in batches:
            if _batch_tokens([*batch, piece], packed) <= budget:
                batch.append(piece)
                break
        else:
            batches.append([piece])
    return batches


def _batch_tokens(pieces: Sequence[Piece], packed: bool) -> int:
    """Packed pieces make one row; others are rows padded to the longest."""
    if packed:
        return sum(p.tokens for p in pieces)
    return sum(p.rows for p in pieces) * max(p.row_tokens for p in pieces)


def _piece(
    group: int, prompt_tokens: int, completion_tokens: Sequence[int], members: Sequence[int], packed: bool
) -> Piece:
    lengths = [completion_tokens[i] for i in members]
    if packed:
        return Piece(group, tuple(members), 1, prompt_tokens + sum(lengths))
    return Piece(group, tuple(members), len(members), prompt_tokens + max(lengths))
