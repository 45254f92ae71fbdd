"""Distributes groups over ranks, and groups or parts of groups over forward passes. Pure.

Ranks are synchronised: all run the same number of passes, and each pass takes as long as its slowest rank. So
the cost of an update is the sum, over passes, of the largest number of tokens on any rank. `plan_update`
minimises this sum heuristically: it uses the fewest passes that the token budget allows, distributes the
groups over all (rank, pass) cells, then moves and swaps groups as long as the sum decreases.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from data.records import Group

_CLOSE = 1.02
"""A plan whose cost is within this factor of the lower bound is not improved further."""
_MAX_CHANGES = 100
_PARTNERS = 16
"""Number of cells with the fewest tokens that the largest cell of a pass may exchange groups with. Bounds the
planning time."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some completions of one group that are computed together. `tokens` is their cost in a forward pass: the
    length of the packed row, or the number of rows times the longest row."""

    group: int
    completions: tuple[int, ...]
    rows: int
    row_tokens: int

    @property
    def tokens(self) -> int:
        return self.rows * self.row_tokens


@dataclass(frozen=True, slots=True)
class RankPlan:
    """One rank's part of an update: the indices of its groups, ascending, and its forward passes, longest
    first.

    A piece's group number is an index into `groups`. Both lists may be empty if there are fewer groups than
    ranks.
    """

    groups: list[int]
    passes: list[list[Piece]]


def plan_update(groups: Sequence[Group], ranks: int, budget: int, packed: bool) -> list[RankPlan]:
    """Assign every group to one rank and every completion to one pass. Deterministic.

    No pass exceeds `budget` tokens, except one that holds a single longer completion. A rank with fewer
    passes than another adds passes of the `filler` piece.
    """
    cut = [
        split_group(i, len(g.prompt_token_ids), [len(c.token_ids) for c in g.completions], budget, packed)
        for i, g in enumerate(groups)
    ]
    costs = [sum(piece.tokens for piece in pieces) for pieces in cut]
    passes = max(1, math.ceil(sum(costs) / (ranks * budget)))
    while (cells := _start(cut, costs, ranks, passes, budget, packed)) is None:
        passes += 1
    _improve(cells, budget, packed, enough=_CLOSE * whole_groups_bound(costs, ranks))
    return [_rank_plan(row, packed) for row in cells]


def plan_batches(groups: Sequence[Group], budget: int, packed: bool) -> list[list[Piece]]:
    """Plan the forward passes of `groups` on a single rank, of at most `budget` tokens each."""
    return plan_update(groups, 1, budget, packed)[0].passes


def filler(groups: Sequence[Group], packed: bool) -> Piece:
    """Return the piece for passes that only synchronise with other ranks: the cheapest single completion.

    If all prompts have the same length, nearly every pass costs at least as much, so other ranks rarely wait
    for it.
    """
    candidates = [
        _piece(i, len(g.prompt_token_ids), [len(c.token_ids) for c in g.completions], [k], packed)
        for i, g in enumerate(groups)
        for k in range(len(g.completions))
    ]
    return min(candidates, key=lambda piece: piece.tokens)


def step_tokens(plans: Sequence[RankPlan], packed: bool) -> int:
    """Return the cost of a plan: the sum, over passes, of the largest number of tokens on any rank."""
    most = max(len(plan.passes) for plan in plans)
    return sum(
        max(_batch_tokens(plan.passes[i], packed) for plan in plans if i < len(plan.passes))
        for i in range(most)
    )


def lockstep(plans: Sequence[RankPlan], packed: bool) -> float:
    """Return the tokens that all ranks compute or wait for, divided by the number of tokens; 1 is ideal."""
    tokens = sum(piece.tokens for plan in plans for batch in plan.passes for piece in batch)
    return step_tokens(plans, packed) * len(plans) / tokens


def whole_groups_bound(costs: Sequence[float], ranks: int) -> float:
    """Return a lower bound of `step_tokens` for plans that do not split groups.

    It is the maximum of three: the mean load; the largest group; and, for every k, the sum of the k + 1
    smallest among the k * ranks + 1 largest groups, because some rank has k + 1 of these.
    """
    ordered = sorted(costs, reverse=True)
    crowded = (sum(ordered[k * ranks - k : k * ranks + 1]) for k in range(1, math.ceil(len(ordered) / ranks)))
    return max(sum(ordered) / ranks, ordered[0], *crowded)


def split_group(
    group: int, prompt_tokens: int, completion_tokens: Sequence[int], budget: int, packed: bool
) -> list[Piece]:
    """Split a group into pieces of at most `budget` tokens. A single completion above it is its own piece."""
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


_Cells = list[list[list[Piece]]]
"""The pieces in each cell, as [rank][pass]."""


def _start(
    cut: Sequence[Sequence[Piece]],
    costs: Sequence[int],
    ranks: int,
    passes: int,
    budget: int,
    packed: bool,
) -> _Cells | None:
    """Distribute the groups over `passes` passes, most expensive group first.

    Each group goes to the rank with the fewest tokens that has room for it, and there into the passes with
    the fewest tokens. Returns None if there is no room for some group.
    """
    cells: _Cells = [[[] for _ in range(passes)] for _ in range(ranks)]
    loads = [0] * ranks
    for group in sorted(range(len(cut)), key=lambda i: (-costs[i], i)):
        for rank in sorted(range(ranks), key=lambda r: (loads[r], r)):
            if (row := _with_group(cells[rank], cut[group], budget, packed)) is not None:
                cells[rank] = row
                loads[rank] += costs[group]
                break
        else:
            return None
    for rank, row in enumerate(cells):
        cells[rank] = sorted(row, key=lambda cell: -_batch_tokens(cell, packed))
    return cells


def _with_group(
    row: list[list[Piece]], pieces: Sequence[Piece], budget: int, packed: bool
) -> list[list[Piece]] | None:
    """Return a rank's passes after adding a group to those with the fewest tokens; None if there is no
    room."""
    row = list(row)
    for piece in pieces:
        room = [
            i for i, cell in enumerate(row) if not cell or _batch_tokens([*cell, piece], packed) <= budget
        ]
        if not room:
            return None
        least = min(room, key=lambda i: _batch_tokens(row[i], packed))
        row[least] = [*row[least], piece]
    return row


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of two cells (rank, pass), with their new pieces. A smaller `order` is better."""

    order: tuple[int, int]
    cells: tuple[tuple[int, int], tuple[int, int]]
    held: tuple[list[Piece], list[Piece]]


def _improve(cells: _Cells, budget: int, packed: bool, enough: float) -> None:
    """Move or swap whole groups between the largest cell of a pass and other cells, as long as that helps."""
    pieces_of: dict[int, int] = {}
    for piece in (piece for row in cells for cell in row for piece in cell):
        pieces_of[piece.group] = pieces_of.get(piece.group, 0) + 1
    whole = {group for group, count in pieces_of.items() if count == 1}
    loads = [[_batch_tokens(cell, packed) for cell in row] for row in cells]
    for _ in range(_MAX_CHANGES):
        if sum(map(max, zip(*loads, strict=True))) <= enough:
            return
        best = min(
            _changes(cells, loads, whole, budget, packed), key=lambda c: (c.order, c.cells), default=None
        )
        if best is None:
            return
        for (rank, step), held in zip(best.cells, best.held, strict=True):
            cells[rank][step] = held
            loads[rank][step] = _batch_tokens(held, packed)


def _changes(
    cells: _Cells, loads: list[list[int]], whole: set[int], budget: int, packed: bool
) -> Iterator[_Change]:
    """Yield the changes that lower the cost of the plan, or that keep it and balance two cells."""
    ranked = [sorted(((row[step], rank) for rank, row in enumerate(loads)), reverse=True)[:3]
              for step in range(len(loads[0]))]  # fmt: skip

    def longest(step: int, new: dict[tuple[int, int], int]) -> int:
        others = (load for load, rank in ranked[step] if (rank, step) not in new)
        return max(next(others, 0), *(load for (_, at), load in new.items() if at == step))

    total = sum(column[0][0] for column in ranked)
    emptiest = sorted((load, r, s) for r, row in enumerate(loads) for s, load in enumerate(row))[:_PARTNERS]
    for step, column in enumerate(ranked):
        here = (column[0][1], step)
        full = cells[here[0]][step]
        for there in ((r, s) for _, r, s in emptiest if (r, s) != here):
            other = cells[there[0]][there[1]]
            for mine in (piece for piece in full if piece.group in whole):
                for theirs in (None, *(piece for piece in other if piece.group in whole)):
                    if theirs is not None and theirs.tokens >= mine.tokens:
                        continue
                    left = [p for p in full if p is not mine] + ([theirs] if theirs else [])
                    got = [p for p in other if p is not theirs] + [mine]
                    new = {here: _batch_tokens(left, packed), there: _batch_tokens(got, packed)}
                    # Unpacked, a longer row can enlarge a cell even if it loses more tokens than it gains.
                    if (new[there] > budget and len(got) > 1) or (new[here] > budget and len(left) > 1):
                        continue
                    touched = {step, there[1]}
                    gain = sum(longest(s, new) - ranked[s][0][0] for s in touched)
                    uneven = sum(load**2 - loads[r][s] ** 2 for (r, s), load in new.items())
                    if gain < 0 or (gain == 0 and uneven < 0):
                        yield _Change((total + gain, uneven), (here, there), (left, got))


def _rank_plan(row: list[list[Piece]], packed: bool) -> RankPlan:
    """Sort a rank's passes, longest first. With this order on every rank the cost of the plan is minimal."""
    groups = sorted({piece.group for cell in row for piece in cell})
    position = {group: i for i, group in enumerate(groups)}
    passes = sorted((cell for cell in row if cell), key=lambda cell: -_batch_tokens(cell, packed))
    return RankPlan(groups, [[replace(p, group=position[p.group]) for p in cell] for cell in passes])


def _batch_tokens(pieces: Sequence[Piece], packed: bool) -> int:
    """Return the tokens of one pass: packed pieces form one row, unpacked rows are padded to the longest."""
    if packed:
        return sum(p.tokens for p in pieces)
    return sum(p.rows for p in pieces) * max((p.row_tokens for p in pieces), default=0)


def _piece(
    group: int, prompt_tokens: int, completion_tokens: Sequence[int], members: Sequence[int], packed: bool
) -> Piece:
    lengths = [completion_tokens[i] for i in members]
    if packed:
        return Piece(group, tuple(members), 1, prompt_tokens + sum(lengths))
    return Piece(group, tuple(members), len(members), prompt_tokens + max(lengths))
