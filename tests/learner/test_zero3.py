"""Updates on ZeRO-3 ranks equal plain torch with the whole batch on one process."""

import asyncio
import copy
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from learner.config import LearnerConfig
from learner.group import LearnerFailed, LearnerGroup
from learner.records import TrainSample
from tests.checkpoints import FRAME_PX, Kind, make_checkpoint
from tests.plain_torch import load, random_groups, update_loss
from tests.ranks import Batch, Script, run_ranks

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

# Token counts differ between groups, completions and so ranks; the budget makes several micro-batches of the
# first group and one of others.
LENGTHS = [[9, 3, 11, 6, 8], [2, 5], [4, 1, 3]]
CONFIG = {
    "warmup_updates": 0,
    "min_lr_ratio": 1.0,
    "eps": 1e-6,
    "kl_coefficient": 0.5,
    "micro_batch_tokens": 140,
    "logprob_chunk_tokens": 7,
}


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint("qwen3_vl", tmp_path_factory.mktemp("models") / "qwen")


def batches(path: Path, count: int, px: int = FRAME_PX["internvl"]) -> list[Batch]:
    made = []
    for number in range(count):
        groups, frames = random_groups(path, LENGTHS, px, seed=100 * number)
        rng = np.random.default_rng(number)
        made.append(Batch(groups, frames, [rng.normal(size=len(g.completions)).tolist() for g in groups]))
    return made


def plain_updates(
    path: Path, data: list[Batch], config: LearnerConfig, optimizer: str
) -> tuple[dict[str, np.ndarray], list[float]]:
    """(weights, gradient norm of each update)."""
    model, processor = load(path)
    reference = copy.deepcopy(model).eval()
    if optimizer == "sgd":
        step: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=config.lr)
    else:
        step = torch.optim.AdamW(model.parameters(), lr=config.lr, eps=config.eps, weight_decay=0.0)
    norms = []
    for batch in data:
        step.zero_grad()
        loss = update_loss(
            model,
            reference,
            processor,
            batch.groups,
            batch.frames,
            batch.advantages,
            config.kl_coefficient,
            config.importance_cap,
        )
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)))
        step.step()
    return {n: p.detach().numpy() for n, p in model.named_parameters()}, norms


def largest_difference(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    assert a.keys() == b.keys()
    return max(float(np.abs(a[n] - b[n]).max()) for n in a)


@pytest.mark.parametrize(
    ("optimizer", "lr", "tolerance"),
    [pytest.param("sgd", 1.0, 1e-6, marks=pytest.mark.slow), ("adamw", 1e-3, 5e-5)],
    ids=["sgd", "adamw"],
)
def test_two_ranks_equal_one_process(internvl: Path, optimizer: str, lr: float, tolerance: float) -> None:
    """With SGD at a rate of 1 the step is the clipped gradient, so that parameters compare gradients."""
    config = LearnerConfig.model_validate(CONFIG | {"lr": lr})
    data = batches(internvl, 2)
    base, _ = plain_updates(internvl, [], config, optimizer)
    expected, norms = plain_updates(internvl, data, config, optimizer)
    found = run_ranks(Script(config, internvl, data, optimizer=optimizer))  # type: ignore[arg-type]
    assert found.layout == "packed"
    assert found.metrics[0]["learner/micro_batches"] > 1
    assert largest_difference(found.weights, expected) <= tolerance
    assert largest_difference(found.weights, base) > 10 * tolerance, "something was learned"
    assert [m["learner/grad_norm"] for m in found.metrics] == pytest.approx(norms, rel=1e-5)
    assert found.metrics[0]["policy/kl_to_base"] == pytest.approx(0, abs=1e-9)
    assert found.metrics[1]["policy/kl_to_base"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["internvl", "qwen3_vl"])
def test_parameters_that_are_given_back_after_each_use_change_nothing(
    internvl: Path, qwen: Path, kind: Kind
) -> None:
    """As with a model too large to stay whole: gathered anew for each module, forward, backward, and in the
    recomputation of checkpointed layers."""
    path = internvl if kind == "internvl" else qwen
    config = LearnerConfig.model_validate(CONFIG | {"lr": 1.0, "gradient_checkpointing": True})
    data = batches(path, 3, FRAME_PX[kind])
    expected, _ = plain_updates(path, data, config, "sgd")
    found = run_ranks(Script(config, path, data, optimizer="sgd", release_all=True))
    assert found.layout == "packed"
    assert min(m["learner/micro_batches"] for m in found.metrics) >= 3
    assert largest_difference(found.weights, expected) <= 2e-6


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, {"rank": 2}], ids=["whole", "lora"])
def test_reference_logprobs_may_be_computed_before_the_update(
    internvl: Path, lora: dict[str, int] | None
) -> None:
    """Cohort by cohort, one of them with fewer groups than ranks: the same update but for rounding."""
    config = LearnerConfig.model_validate(CONFIG | {"lr": 1e-3, "lora": lora})
    data = batches(internvl, 3)
    within = run_ranks(Script(config, internvl, data))
    before = run_ranks(Script(config, internvl, data, early=[[2], [0, 1]]))
    assert largest_difference(before.weights, within.weights) <= 1e-6
    for early, usual in zip(before.metrics, within.metrics, strict=True):
        assert early["policy/kl_to_base"] == pytest.approx(usual["policy/kl_to_base"], rel=1e-4, abs=1e-9)
        assert early["learner/loss"] == pytest.approx(usual["learner/loss"], rel=1e-4, abs=1e-7)
        assert early["learner/reference_s"] < usual["learner/reference_s"]
    assert within.metrics[2]["policy/kl_to_base"] > 1e-6


def test_a_rank_without_a_group_keeps_step(internvl: Path) -> None:
    """Three ranks, one group: the others take part with nothing, and the result is that of one rank."""
    config = LearnerConfig.model_validate(CONFIG | {"lr": 1.0})
    groups, frames = random_groups(internvl, [[6, 2, 4]])
    data = [Batch(groups, frames, [[1.0, -0.5, -0.5]])]
    expected, _ = plain_updates(internvl, data, config, "sgd")
    found = run_ranks(Script(config, internvl, data, optimizer="sgd"), ranks=3)
    assert largest_difference(found.weights, expected) <= 1e-6
    prompt = len(groups[0].prompt_token_ids)
    passes = found.metrics[0]["learner/micro_batches"]
    idle, busy = 2 * passes * (prompt + 2), passes * prompt + 6 + 2 + 4
    assert found.metrics[0]["learner/repeated_share"] == pytest.approx(idle / (idle + busy))
    assert found.metrics[0]["learner/padding_share"] == 0
    phases = ("inputs_wait_s", "reference_s", "forward_s", "backward_s", "optimizer_s")
    seconds = [found.metrics[0][f"learner/{phase}"] for phase in phases]
    assert min(seconds) > 0
    assert sum(seconds) <= found.metrics[0]["learner/update_s"]


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)])
def test_a_rank_that_dies_or_stops_ends_the_group(
    local_ray: None, internvl: Path, how: signal.Signals
) -> None:
    """Within the deadline, with an error that names what was waited for, and without a process left."""
    import ray

    config = LearnerConfig.model_validate(CONFIG | {"update_timeout_s": 15.0, "collective_timeout_s": 10.0})
    batch = batches(internvl, 1)[0]

    async def run() -> tuple[list[int], str, float]:
        learner = LearnerGroup(config, str(internvl), 5, shutdown_timeout_s=10)
        await learner.start()
        pids = [pid for _, pid in learner._processes]
        samples = [
            TrainSample(g, ray.put(f), a)
            for g, f, a in zip(batch.groups, batch.frames, batch.advantages, strict=True)
        ]
        await learner.update(samples)
        os.kill(pids[1], how)
        started = time.monotonic()
        with pytest.raises(LearnerFailed) as caught:
            await learner.update(samples)
        seconds = time.monotonic() - started
        await learner.close()
        return pids, str(caught.value), seconds

    pids, message, seconds = asyncio.run(run())
    assert "learner rank" in message
    assert "update" in message
    assert seconds < 25
    deadline = time.monotonic() + 15
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
