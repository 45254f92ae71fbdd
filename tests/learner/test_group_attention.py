"""Attention within packed groups, against SDPA under a mask that says who may look at whom."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from learner.group_attention import group_attention
from learner.packing import Span, TokenGroup, follow_prompt, pack_groups

spans_of_a_row = st.lists(
    st.builds(Span, st.integers(1, 7), st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)),
    min_size=1,
    max_size=3,
)


def visible(spans: list[Span]) -> Tensor:
    """Bool [L, L], True where a query may look: causal, within its group, at the prompt or its own part."""
    group, part = [], []
    for number, span in enumerate(spans):
        for index, length in enumerate((span.prompt, *span.completions)):
            group += [number] * length
            part += [index] * length
    groups, parts = torch.tensor(group), torch.tensor(part)
    same_group = groups[:, None] == groups
    return (same_group & ((parts == 0) | (parts[:, None] == parts))).tril()


@settings(deadline=None)
@given(spans_of_a_row, st.sampled_from([(2, 2), (4, 2), (3, 1)]))
def test_equals_masked_attention_with_its_gradients(spans: list[Span], heads: tuple[int, int]) -> None:
    length = sum(s.tokens for s in spans)
    n_query, n_key = heads
    torch.manual_seed(length)
    states = query, key, value = [
        torch.randn(1, n, length, 8, dtype=torch.float64, requires_grad=True) for n in (n_query, n_key, n_key)
    ]
    found, _ = group_attention(nn.Identity(), query, key, value, None, group_spans=spans, scaling=0.3)
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=visible(spans), scale=0.3, enable_gqa=True
    ).transpose(1, 2)
    assert found.shape == (1, length, n_query, 8)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    weights = torch.randn_like(expected)
    ours = torch.autograd.grad((found * weights).sum(), states)
    theirs = torch.autograd.grad((expected * weights).sum(), states)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=0)


@given(spans_of_a_row)
def test_a_row_holds_each_group_without_padding(spans: list[Span]) -> None:
    """Ids say where they stand: 100 a group, then the position that the token must be given."""
    groups = [
        TokenGroup(
            [100 * number + i for i in range(s.prompt)],
            [[100 * number + s.prompt + i for i in range(n)] for n in s.completions],
        )
        for number, s in enumerate(spans)
    ]
    rows = pack_groups(groups)
    assert rows.spans == tuple(spans)
    assert rows.positions is not None
    ids = rows.input_ids[0]
    assert torch.equal(rows.positions[0], ids % 100)
    assert rows.tokens == len(ids) == sum(s.tokens for s in spans)
    assert torch.equal(ids[rows.predictors], rows.targets - 1)
    inline = torch.arange(len(ids)).expand(3, 1, -1)
    assert torch.equal(follow_prompt(inline, rows.positions, spans)[:, 0], rows.positions.expand(3, -1))
