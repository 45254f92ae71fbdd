"""A start with fewer workers than wanted, what becomes of the others, and how many restarts are too many."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import PermanentError
from rollout import membership
from rollout.config import RolloutConfig
from rollout.errors import FleetExhausted
from rollout.fleet import RolloutFleet
from rollout.member import Member
from rollout.placement import Placement
from rollout.starting import RestartRate
from runtime.placement import PlacementError


class Refused(PermanentError):
    pass


class FakeActor:
    class close:
        @staticmethod
        async def remote() -> None: ...


class FakePlacement:
    async def end(self, actor: Any) -> None: ...


class Fleet(RolloutFleet):
    """Whose launches end as `script` says, in their order: an error, None for success, or an event that a
    success waits for. Later ones succeed."""

    def __init__(self, script: Sequence[Exception | asyncio.Event | None], **settings: Any) -> None:
        self.faults: list[str] = []
        self.recoveries: list[tuple[str, str]] = []
        super().__init__(
            RolloutConfig(replicas=8, **settings),
            "model",
            frames_per_video=4,
            seed=0,
            on_fault=lambda worker, _: self.faults.append(worker),
            on_recovery=lambda worker, successor, _: self.recoveries.append((worker, successor)),
        )
        self.script = script
        self.launches = 0

    async def _launch(self) -> Member:
        number = next(self._numbers)
        self.launches += 1
        step = self.script[number] if number < len(self.script) else None
        await asyncio.sleep(0)
        if isinstance(step, Exception):
            raise step
        if step is not None:
            await step.wait()
        member = Member(f"rollout-{number}", FakeActor(), cast(Placement, FakePlacement()), healthy=True)
        self._members[member.worker_id] = member
        self._router.join(member)
        return member


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "FIRST_PAUSE_S", 0.001)


async def until_healthy(fleet: Fleet, workers: int) -> None:
    async with asyncio.timeout(5):
        while len(fleet.healthy) != workers:
            await asyncio.sleep(0.001)


async def until_exhausted(fleet: Fleet) -> None:
    async with asyncio.timeout(5):
        while True:
            async with fleet.settled():
                await asyncio.sleep(0.001)


def no_room() -> PlacementError:
    return PlacementError("no room")


def test_a_run_starts_with_enough_workers_and_the_others_join(no_pause: None) -> None:
    async def main() -> None:
        slow = asyncio.Event()
        fleet = Fleet([None, no_room(), slow, None, no_room()], min_replicas=2)
        await asyncio.wait_for(fleet.start(4), 5)
        assert fleet.healthy == ["rollout-0", "rollout-3"]
        await until_healthy(fleet, 3)
        slow.set()
        await until_healthy(fleet, 4)
        assert set(fleet.healthy) == {"rollout-0", "rollout-2", "rollout-3", "rollout-5"}
        assert fleet.faults == ["rollout-1"]
        assert fleet.recoveries == [("rollout-1", "rollout-5")]
        async with fleet.settled() as workers:
            assert len(workers) == 4
        await fleet.close()

    asyncio.run(main())


@pytest.mark.parametrize(("needed", "started"), [(3, False), (2, True)])
def test_a_start_with_too_few_workers_fails_and_leaves_none(
    needed: int, started: bool, no_pause: None
) -> None:
    async def main() -> None:
        fleet = Fleet([None, no_room(), None, no_room()], min_replicas=needed)
        if started:
            await fleet.start(4)
        else:
            with pytest.raises(PlacementError, match="no room"):
                await fleet.start(4)
            assert fleet.healthy == []
            assert fleet.launches == 4
        await fleet.close()

    asyncio.run(main())


def test_a_small_fleet_starts_whole_or_not_at_all() -> None:
    async def main() -> None:
        with pytest.raises(PlacementError):
            await Fleet([None, None, None, no_room()]).start(4)

    asyncio.run(main())
    counts = {n: RolloutConfig().enough_replicas(n) for n in (1, 2, 4, 5, 8, 32)}
    assert counts == {1: 1, 2: 2, 4: 4, 5: 4, 8: 6, 32: 24}
    assert RolloutConfig(replicas=8, min_replicas=3).enough_replicas(2) == 2


def test_more_needed_workers_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rollout.min_replicas \(3\) is above rollout.replicas \(2\)"):
        RolloutConfig(replicas=2, min_replicas=3)


def test_what_must_fail_again_ends_a_start_although_there_are_enough() -> None:
    async def main() -> None:
        with pytest.raises(Refused, match="too long"):
            await Fleet([Refused("too long"), None], min_replicas=1).start(2)

    asyncio.run(main())


def test_what_must_fail_again_ends_a_run_that_has_started() -> None:
    class Late(Fleet):
        async def _launch(self) -> Member:
            member = await super()._launch()
            if member.worker_id == "rollout-1":
                raise Refused("too long")
            return member

    async def main() -> None:
        slow = asyncio.Event()
        fleet = Late([None, slow], min_replicas=1)
        await fleet.start(2)
        slow.set()
        with pytest.raises(FleetExhausted, match="rollout-1 cannot start: too long"):
            await until_exhausted(fleet)

    asyncio.run(main())


def test_failed_starts_end_a_run_only_while_too_few_workers_are_healthy(no_pause: None) -> None:
    async def main() -> None:
        failing = [no_room() for _ in range(8)]
        fleet = Fleet([None, None, *failing], min_replicas=2, max_worker_restarts=1)
        await fleet.start(3)
        async with asyncio.timeout(5):
            while fleet.launches < 6:
                await asyncio.sleep(0.001)
        async with fleet.settled() as workers:
            assert len(workers) == 2
        fleet.give_up("rollout-0", "it died", its_fault=False)
        with pytest.raises(FleetExhausted, match=r"more than 1 \(rollout.max_worker_restarts\) in 3600 s"):
            await until_exhausted(fleet)
        await fleet.close()

    asyncio.run(main())


def test_a_smaller_fleet_gives_up_those_that_have_not_started_first() -> None:
    async def main() -> None:
        never = asyncio.Event()
        fleet = Fleet([None, never, None, never], min_replicas=2)
        await fleet.start(4)
        await fleet.resize(3)
        assert fleet.healthy == ["rollout-0", "rollout-2"]
        await fleet.resize(1)
        assert len(fleet.healthy) == 1
        never.set()
        await asyncio.sleep(0.01)
        assert len(fleet.healthy) == 1, "nobody joins later"
        await fleet.resize(2)
        assert len(fleet.healthy) == 2
        await fleet.close()

    asyncio.run(main())


@given(
    gaps=st.lists(st.floats(0, 10), min_size=1, max_size=40),
    limit=st.integers(0, 6),
    window_s=st.floats(0.5, 20),
)
def test_restarts_are_counted_within_the_window(gaps: list[float], limit: int, window_s: float) -> None:
    rate, times = RestartRate(limit, window_s), list[float]()
    for gap in gaps:
        times.append((times[-1] if times else 0.0) + gap)
        recent = [t for t in times if t > times[-1] - window_s]
        assert rate.exceeded(times[-1]) == (len(recent) > limit)


@pytest.mark.parametrize(("window_s", "ends"), [(60.0, True), (0.02, False)])
def test_a_long_run_may_replace_more_workers_than_a_short_one(window_s: float, ends: bool) -> None:
    async def main() -> None:
        fleet = Fleet([], max_worker_restarts=1, restart_window_s=window_s)
        await fleet.start(1)
        for _ in range(3):
            fleet.give_up(fleet.healthy[0], "it died", its_fault=True)
            if ends and fleet.restarts == 2:
                break
            await until_healthy(fleet, 1)
            await asyncio.sleep(0.03)
        if ends:
            with pytest.raises(FleetExhausted, match="had to be replaced; the last one: it died"):
                async with fleet.settled():
                    pass
        else:
            assert fleet.restarts == 3
            async with fleet.settled() as workers:
                assert len(workers) == 1
        await fleet.close()

    asyncio.run(main())
