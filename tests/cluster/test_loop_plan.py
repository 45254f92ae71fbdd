"""The loop simulated by tokens: invariants under early passes, evaluations and background checkpoints."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.config import load_config
from cluster.planning.architecture import read_architecture
from cluster.planning.costs import LoopCosts, from_smoke, read_costs, update_costs
from cluster.planning.engines import Answers, EngineSpeed, TokenEngine
from cluster.planning.service_times import CheckpointLoad, EvaluationLoad, ServiceTimes
from cluster.planning.simulation import Outcome, run_in_virtual_time, simulate
from cluster.planning.workers import LoopPlan, plan_workers
from runtime.errors import ConfigError
from tests.cluster.test_simulation import job

ROOT = Path(__file__).resolve().parents[2]
PAPER = ROOT / "configs" / "internvl3-8b.toml"
SPEED = EngineSpeed(step_s=0.01, step_s_per_sequence=0.001, prefill_s=0.5, resume_s=0.1)


@settings(max_examples=15, deadline=None)
@given(
    staleness=st.integers(0, 3),
    cohorts_per_update=st.integers(1, 3),
    in_flight=st.sampled_from(["keep", "finish"]),
    engines=st.integers(1, 4),
    update_s=st.floats(0.5, 60),
    gather_s=st.floats(0, 5),
    at_cap=st.floats(0, 0.3),
    early=st.booleans(),
    beside=st.booleans(),
    background=st.booleans(),
    lifetime_s=st.floats(100, 1e5),
    seed=st.integers(0, 2**20),
)
def test_every_row_ends_once_no_token_is_too_old_and_results_belong_to_a_version(
    staleness: int,
    cohorts_per_update: int,
    in_flight: str,
    engines: int,
    update_s: float,
    gather_s: float,
    at_cap: float,
    early: bool,
    beside: bool,
    background: bool,
    lifetime_s: float,
    seed: int,
) -> None:
    the_job = job(
        23,
        "--schedule.videos_per_cohort=4",
        "--schedule.completions_per_video=2",
        "--schedule.epochs=2",
        "--rollout.max_completion_tokens=500",
        "--rollout.max_concurrent_sequences=8",
        "--rollout.max_retries=50",
        "--checkpoint.every_updates=2",
        f"--checkpoint.background={background}",
        f"--schedule.cohorts_per_update={cohorts_per_update}",
        f"--schedule.max_staleness={staleness}",
        f"--rollout.in_flight={in_flight}",
    )
    times = ServiceTimes(
        update_s=update_s,
        gather_s=gather_s,
        reference_s=update_s / 5,
        early_reference=early,
        engine=SPEED,
        answers=Answers(100, at_cap=at_cap),
        decode_slots=4,
        evaluation=EvaluationLoad(videos=9, every_updates=2, in_flight=4, beside=beside),
        checkpoint=CheckpointLoad(write_s=30.0, snapshot_s=1.0),
        worker_start_s=20,
        worker_lifetime_s=lifetime_s,
    )
    outcome = simulate(the_job, times, engines, seed)
    assert outcome.fates == {(epoch, f"v{i}"): 1 for epoch in range(2) for i in range(23)}
    assert outcome.staleness_max <= staleness
    updates = the_job.sizes.updates
    assert outcome.evaluated == [{version} for version in range(2, updates, 2)]
    assert len(outcome.checkpoints) == updates // 2 + updates % 2
    for (_, before_s), (_, on_disk_s) in zip(outcome.checkpoints, outcome.checkpoints[1:], strict=False):
        assert on_disk_s - before_s >= 30.0, "one is on disk before the next is begun"


def test_an_engine_decodes_in_step_and_stands_still_for_weights() -> None:
    """Two answers of 100 and 200 tokens: steps of 12 ms for two sequences and of 11 for one; prefilling once
    at the start and once again, for the one that is left, after a pause of 10 s."""
    import asyncio

    async def main() -> list[float]:
        loop, engine, ended = asyncio.get_running_loop(), TokenEngine(SPEED), []

        async def answer(tokens: int) -> None:
            await engine.serve([[tokens]])
            ended.append(loop.time())

        async def weights() -> None:
            await asyncio.sleep(2.5)
            engine.pause()
            await asyncio.sleep(10)
            engine.resume()

        await asyncio.gather(answer(100), answer(200), weights())
        return ended

    first, second = run_in_virtual_time(main())
    assert first == pytest.approx(2 * 0.5 + 100 * 0.012)
    assert second == pytest.approx(first + 100 * 0.011 + 10 + 0.1)


@pytest.mark.parametrize(
    ("engines", "update_s", "at_cap", "staleness", "cap", "expected_s"),
    [
        (4, 5.0, 0.01, 1, 2048, 15.1),
        (4, 5.0, 0.002, 2, 1024, 8.4),
        (8, 2.6, 0.0, 1, 2048, 8.1),
    ],
)
def test_agrees_with_stepping_through_every_token(
    engines: int, update_s: float, at_cap: float, staleness: int, cap: int, expected_s: float
) -> None:
    """`expected_s` is what a program without controller, router and buffer came to, one step after another
    (`python -m benchmarks.loop_table` has all of its figures)."""
    settled = [f"--schedule.max_staleness={staleness}", f"--rollout.max_completion_tokens={cap}"]
    config = load_config(PAPER, [*settled, "--checkpoint.every_updates=0"])
    times = ServiceTimes(
        update_s=update_s, sync_s=2.0, engine=LoopCosts().engine_speed(), answers=Answers(at_cap=at_cap)
    )
    outcome = plan_workers(config, times, [engines], updates=50)[engines]
    assert outcome.period_s == pytest.approx(expected_s, rel=0.08)


def small_plan(*overrides: str) -> LoopPlan:
    often = ["--evaluation.every_updates=5", "--checkpoint.every_updates=5", "--data.decode_tasks=8"]
    config = load_config(PAPER, [*often, "--checkpoint.background=false", *overrides])
    return LoopPlan(config, Answers(), evaluated=300)


def outcome_of(plan: LoopPlan) -> Outcome:
    return plan.simulate(read_architecture(plan.config.model.path), LoopCosts(), updates=20)


def test_what_the_loop_can_do_makes_it_faster() -> None:
    plan = small_plan()
    today = outcome_of(plan)
    assert today.phases["evaluation"] > 1
    assert today.phases["checkpoint"] > 10
    for better in (
        replace(plan, evaluated=0),
        replace(plan, frames_kept=True),
        small_plan("--checkpoint.background=true"),
    ):
        assert outcome_of(better).period_s < today.period_s
    free = replace(small_plan("--checkpoint.background=true"), evaluated=0)
    assert outcome_of(replace(free, early_reference=True)).period_s < outcome_of(free).period_s


def test_an_update_costs_what_its_flop_take() -> None:
    """7.40 PFLOP on 4 GPUs of 400 TFLOP/s, a fifth of it the reference's (docs/learner.md)."""
    config, model = load_config(PAPER), read_architecture("OpenGVLab/InternVL3-8B-hf")
    found = update_costs(config, model, LoopCosts(), Answers())
    assert found.update_s / found.lockstep == pytest.approx(7.40e15 / (4 * 400e12), rel=0.01)
    assert found.reference_s == pytest.approx(found.update_s / 5)
    assert found.checkpoint_s == pytest.approx(12 * 7.944, rel=0.01)


SMOKE = {
    "tiny": False,
    "lines": [
        {"status": "PASS", "name": "update, packed", "values": {"tflops": 300.0}},
        {"status": "PASS", "name": "decoding, internvl", "values": {"step_s": 0.004, "parameters": 1e9}},
        {"status": "PASS", "name": "checkpoint round trip", "values": {"gb": 10.0, "save_s": 5.0}},
        {"status": "FAIL", "name": "gather to host memory", "values": {"gb": 10.0, "s": 1.0}},
    ],
}


def test_a_smoke_report_replaces_what_it_measured(tmp_path: Path) -> None:
    file = tmp_path / "smoke.json"
    file.write_text(json.dumps(SMOKE))
    costs, names = read_costs(file)
    assert names == ["checkpoint_gb_per_s", "engine_step_s", "learner_tflops"]
    assert costs.learner_tflops == 375.0
    assert costs.engine_step_s == pytest.approx(0.004 + 14e9 / 2.6e12)
    assert costs.checkpoint_gb_per_s == 2.0
    assert costs.snapshot_gb_per_s == LoopCosts().snapshot_gb_per_s
    with pytest.raises(ConfigError, match="--tiny"):
        from_smoke(SMOKE | {"tiny": True})
    file.write_text('{"broadcast": 3}')
    with pytest.raises(ConfigError, match="broadcast_s"):
        read_costs(file)
    file.write_text('{"broadcast_s": 3}')
    assert read_costs(file)[0].broadcast_s == 3
