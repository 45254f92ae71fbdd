"""The GRPO loss against a naive implementation in float64, and what it promises at its edges."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.config import LearnerConfig
from learner.grpo import TokenBatch, group_advantages, grpo_loss, learning_rate, token_weights


def naive_loss(
    logprobs: list[list[float]],
    old: list[list[float]],
    engine: list[list[float]],
    reference: list[list[float]] | None,
    advantages: list[float],
    config: LearnerConfig,
) -> float:
    """The paper's objective, completion by completion and token by token, on plain floats."""
    total_tokens = sum(len(row) for row in logprobs)
    loss = 0.0
    for i, row in enumerate(logprobs):
        for t, now in enumerate(row):
            ratio = math.exp(now - old[i][t])
            clipped = min(max(ratio, 1 - config.clip_low), 1 + config.clip_high)
            gain = min(ratio * advantages[i], clipped * advantages[i])
            weight = min(math.exp(old[i][t] - engine[i][t]), config.importance_cap)
            token_loss = -weight * gain
            if reference is not None:
                d = reference[i][t] - now
                token_loss += config.kl_coefficient * (math.exp(d) - d - 1)
            if config.loss_mean == "sequence":
                loss += token_loss / len(row) / len(logprobs)
            else:
                loss += token_loss / total_tokens
    return loss


logprob = st.floats(-4, -0.01)


@st.composite
def updates(draw: st.DrawFn) -> tuple[list[list[float]], ...]:
    """(logprobs, old, engine, reference, advantages) of one to four completions."""
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))

    def near(centre: list[list[float]], reach: float) -> list[list[float]]:
        return [[x + draw(st.floats(-reach, reach)) for x in row] for row in centre]

    old = [[draw(logprob) for _ in range(n)] for n in lengths]
    advantages = [draw(st.floats(-2, 2)) for _ in lengths]
    return near(old, 0.5), old, near(old, 1.2), near(old, 1.0), [advantages]


@pytest.mark.parametrize("mean", ["sequence", "token"])
@settings(deadline=None, max_examples=60)
@given(updates(), st.booleans())
def test_loss_and_gradient_are_those_of_the_formula(
    mean: str, update: tuple[list[list[float]], ...], with_kl: bool
) -> None:
    logprobs, old, engine, reference, (advantages,) = update
    config = LearnerConfig.model_validate(
        {"loss_mean": mean, "clip_low": 0.2, "clip_high": 0.3, "importance_cap": 2.0, "kl_coefficient": 0.1}
    )
    lengths = [len(row) for row in logprobs]

    def flat(rows: list[list[float]]) -> torch.Tensor:
        return torch.tensor([x for row in rows for x in row], dtype=torch.float64)

    now = flat(logprobs).requires_grad_()
    batch = TokenBatch(
        now,
        flat(old),
        flat(engine),
        flat(reference) if with_kl else None,
        torch.tensor(advantages, dtype=torch.float64).repeat_interleave(torch.tensor(lengths)),
        token_weights(lengths, mean, len(lengths), sum(lengths)).double(),
    )
    loss, _ = grpo_loss(batch, config)
    loss.backward()

    def formula(values: list[list[float]]) -> float:
        return naive_loss(values, old, engine, reference if with_kl else None, advantages, config)

    assert float(loss.detach()) == pytest.approx(formula(logprobs), abs=1e-6)
    step = 1e-6
    assert now.grad is not None
    position = 0
    for i, row in enumerate(logprobs):
        for t in range(len(row)):
            ratio = math.exp(row[t] - old[i][t])
            on_a_corner = min(abs(ratio - 0.8), abs(ratio - 1.3)) < 1e-4
            if not on_a_corner:
                up, down = ([list(r) for r in logprobs] for _ in range(2))
                up[i][t] += step
                down[i][t] -= step
                slope = (formula(up) - formula(down)) / (2 * step)
                assert float(now.grad[position]) == pytest.approx(slope, abs=1e-5)
            position += 1


def one_token(config: LearnerConfig, now: float, old: float, engine: float, advantage: float) -> float:
    new, before, sampled = (torch.tensor([x], dtype=torch.float64) for x in (now, old, engine))
    weights = torch.ones(1, dtype=torch.float64)
    batch = TokenBatch(new, before, sampled, None, torch.tensor([advantage]), weights)
    return float(grpo_loss(batch, config)[0])


def test_edges() -> None:
    config = LearnerConfig(clip_low=0.2, clip_high=0.2, importance_cap=2.0)
    assert one_token(config, -1, -1, -1, 1.5) == pytest.approx(-1.5), "on-policy: the advantage itself"
    assert one_token(config, -1, -1, -9, 1.0) == pytest.approx(-2.0), "the importance weight is capped"
    assert one_token(config, -1, -1, 0, 1.0) == pytest.approx(-math.exp(-1)), "and not raised from below"
    assert one_token(config, 0, -1, -1, 1.0) == pytest.approx(-1.2), "a gain is clipped"
    assert one_token(config, 0, -1, -1, -1.0) == pytest.approx(math.e), "a loss is not"


def test_kl_is_zero_at_the_reference_and_never_negative() -> None:
    config = LearnerConfig(kl_coefficient=1.0)
    values = torch.linspace(-3, -0.1, 7, dtype=torch.float64)
    zero, weights = torch.zeros(7, dtype=torch.float64), torch.ones(7, dtype=torch.float64)
    same, _ = grpo_loss(TokenBatch(values, values, values, values, zero, weights), config)
    assert float(same) == 0
    apart, _ = grpo_loss(TokenBatch(values, values, values, values.flip(0), zero, weights), config)
    assert float(apart) > 0


def test_advantages_by_hand() -> None:
    config = LearnerConfig()
    found = group_advantages([1.0, 2.0, 3.0], config)
    assert found == pytest.approx(np.array([-1, 0, 1]) / (1 + 1e-4))
    assert group_advantages([0.1 + 0.2, 0.3, 0.3], config).any(), "differences count, however small"
    assert not group_advantages([0.3] * 5, config).any()
    assert not group_advantages([2.0], config).any()
    constant = LearnerConfig(advantage_scale="constant", advantage_constant=0.5)
    assert group_advantages([1.0, 2.0], constant) == pytest.approx([-1, 1])
    with pytest.raises(ValueError, match="not finite"):
        group_advantages([1.0, math.nan], config)


def test_learning_rate_warms_up_and_falls() -> None:
    config = LearnerConfig(lr=1.0, warmup_updates=4, min_lr_ratio=0.1)
    rates = [learning_rate(update, config, 24) for update in range(24)]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[4] == pytest.approx(1.0)
    assert all(a >= b for a, b in itertools.pairwise(rates[4:]))
    assert rates[-1] == pytest.approx(0.1)
