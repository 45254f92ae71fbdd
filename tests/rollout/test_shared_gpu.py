"""On a GPU that engine and learner share, an engine starts while no rank takes or frees memory."""

import asyncio
from typing import Any, cast

import pytest

from learner.batch_planning import Piece, RankPlan
from learner.config import LearnerConfig
from learner.group import LearnerGroup
from rollout import membership
from rollout.config import RolloutConfig
from rollout.drain_gate import DrainGate
from rollout.environment import engine_environment
from rollout.fleet import RolloutFleet
from rollout.placement import Placement


class Step:
    """A call that lasts until it is let go."""

    def __init__(self) -> None:
        self.begun, self.released = asyncio.Event(), asyncio.Event()

    async def last(self, *_: Any) -> list[Any]:
        self.begun.set()
        await self.released.wait()
        return [{}]


class Learner(LearnerGroup):
    """Whose ranks are one step."""

    step: Step

    async def _with_reference(self, samples: Any) -> Any:
        return samples

    def _plan(self, samples: Any) -> list[RankPlan]:
        return [RankPlan([0], [[Piece(0, (0,), 1, 8)]])]

    def _shards(self, samples: Any, plans: Any) -> Any:
        return []

    async def _call_each(self, calls: Any, timeout_s: float) -> list[Any]:
        return await self.step.last()


class Fleet(RolloutFleet):
    """Whose actors start as long as a step lasts."""

    step: Step

    def _make_actor(self, worker_id: str, number: int, placement: Placement) -> Any:
        async def start() -> None:
            await self.step.last()

        return type("Actor", (), {"start": type("Method", (), {"remote": staticmethod(start)})})


async def soon(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), 5)


def test_a_replacement_starts_between_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    async def place(*_: Any) -> Placement:
        return cast(Placement, None)

    monkeypatch.setattr(membership, "place", place)

    async def main() -> None:
        gate = DrainGate()
        learner = Learner(LearnerConfig(), "model", 1, alone=gate.drained)
        fleet = Fleet(RolloutConfig(), "model", 1, seed=0, starting=gate.entered)
        learner.step, fleet.step = Step(), Step()
        updating = asyncio.create_task(learner.update(cast(Any, [None])))
        await soon(learner.step.begun)
        launching = asyncio.create_task(fleet._launch())
        await asyncio.sleep(0.05)
        assert not fleet.step.begun.is_set(), "an engine starts in mid-update"
        learner.step.released.set()
        await updating
        await soon(fleet.step.begun)

        learner.step = Step()
        updating = asyncio.create_task(learner.update(cast(Any, [None])))
        await asyncio.sleep(0.05)
        assert not learner.step.begun.is_set(), "an update begins while an engine starts"
        fleet.step.released.set()
        await launching
        await soon(learner.step.begun)
        learner.step.released.set()
        await updating

    asyncio.run(main())


def test_vllms_own_deadline_of_a_start_is_ours() -> None:
    """vLLM gives up after 600 s by itself."""
    config = RolloutConfig(start_timeout_s=899.5)
    assert engine_environment(config, True)["VLLM_ENGINE_READY_TIMEOUT_S"] == "900"
