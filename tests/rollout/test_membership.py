"""Who is in the fleet while weights are handed out, with actors that only answer."""

import asyncio
from typing import Any, cast

import pytest
import ray

from data.errors import PermanentError
from data.records import SamplingRequest, VideoRef
from rollout.config import RolloutConfig
from rollout.errors import FleetExhausted, RolloutFailed
from rollout.fleet import RolloutFleet
from rollout.member import Lost, Member, ask
from rollout.placement import Placement
from rollout.worker import RolloutWorker
from runtime.actors import remote
from runtime.placement import PlacementError


class FakeActor:
    """Answers every call at once, and writes down which there were."""

    def __init__(self, calls: list[str]) -> None:
        self._calls = calls

    def __getattr__(self, method: str) -> Any:
        async def remote(*args: Any) -> None:
            self._calls.append(method)

        return type("Method", (), {"remote": staticmethod(remote)})


class FakePlacement:
    def __init__(self) -> None:
        self.ended = 0

    async def end(self, actor: Any) -> None:
        self.ended += 1


class Fleet(RolloutFleet):
    """Starts no worker for one that is lost, but counts it."""

    def __init__(self) -> None:
        super().__init__(RolloutConfig(max_worker_restarts=1), "model", frames_per_video=4, seed=0)
        self.calls: list[str] = []
        self.replaced: list[str] = []

    def take_in(self, worker_id: str) -> FakePlacement:
        placement = FakePlacement()
        member = Member(worker_id, FakeActor(self.calls), cast(Placement, placement), healthy=True)
        self._members[worker_id] = member
        self._router.join(member)
        return placement

    async def _launch_in_place_of(self, worker_id: str) -> None:
        self.replaced.append(worker_id)

    async def _launch(self) -> Member:
        """The first has room at once, and no other ever."""
        number = next(self._numbers)
        if number > 0:
            await asyncio.sleep(0.01)
            raise PlacementError("no room")
        self.take_in("new")
        return self._members["new"]

    async def settle(self) -> None:
        await asyncio.gather(*self._background)


def test_a_worker_that_is_removed_stays_until_the_weights_are_handed_out() -> None:
    async def main() -> None:
        fleet = Fleet()
        fleet.take_in("a")
        async with fleet.settled() as workers:
            removing = asyncio.create_task(fleet.remove("a"))
            await asyncio.sleep(0.01)
            assert workers == ["a"]
            assert fleet.healthy == []
            await fleet.receive_weights("a", 1, {})
            assert fleet.calls == ["receive_weights"]
        await asyncio.wait_for(removing, 5)
        assert fleet.calls == ["receive_weights", "close"]
        async with fleet.settled() as workers:
            assert workers == []

    asyncio.run(main())


def test_workers_that_started_leave_again_if_not_all_can() -> None:
    async def main() -> None:
        fleet = Fleet()
        fleet.take_in("a")
        fleet._replicas = 1
        with pytest.raises(PlacementError, match="no room"):
            await fleet.resize(3)
        assert fleet.healthy == ["a"]
        assert fleet.calls == ["close"]
        await fleet.resize(1)
        assert fleet.healthy == ["a"]

    asyncio.run(main())


def test_a_worker_that_is_gone_is_a_call_that_failed() -> None:
    with pytest.raises(RolloutFailed, match=r"a\.receive_weights: the worker is gone"):
        asyncio.run(Fleet().receive_weights("a", 1, {}))


def test_only_those_at_fault_count_towards_the_limit_of_replacements() -> None:
    async def main() -> None:
        fleet = Fleet()
        places = {worker: fleet.take_in(worker) for worker in "abcd"}
        for worker in "abc":
            fleet.give_up(worker, "stuck", its_fault=worker == "a")
        fleet.give_up("a", "stuck", its_fault=True)
        await fleet.settle()
        assert (fleet.healthy, fleet.restarts) == (["d"], 1)
        assert fleet.replaced == ["a", "b", "c"]
        assert [place.ended for place in places.values()] == [1, 1, 1, 0]
        async with fleet.settled():
            pass  # the limit is not passed

    asyncio.run(main())


def test_a_worker_lost_while_it_leaves_is_not_replaced() -> None:
    async def main() -> None:
        fleet = Fleet()
        place = fleet.take_in("a")
        async with fleet.settled():
            removing = asyncio.create_task(fleet.remove("a"))
            await asyncio.sleep(0)
            fleet.give_up("a", "a died", its_fault=True)
        await asyncio.wait_for(removing, 5)
        await fleet.settle()
        assert (place.ended, fleet.replaced, fleet.restarts, fleet.calls) == (1, [], 0, [])

    asyncio.run(main())


class Refused(PermanentError):
    pass


def test_what_must_fail_again_is_not_started_again() -> None:
    class Refusing(Fleet):
        _launch_in_place_of = RolloutFleet._launch_in_place_of
        launches = 0

        async def _launch(self) -> Member:
            self.launches += 1
            raise Refused("lower rollout.max_model_tokens")

    async def main() -> None:
        fleet = Refusing()
        fleet.take_in("a")
        fleet.give_up("a", "a died", its_fault=True)
        await fleet.settle()
        assert fleet.launches == 1
        with pytest.raises(FleetExhausted, match="no replacement of a can start: lower rollout.max_model"):
            async with fleet.settled():
                pass

    asyncio.run(main())


def test_a_call_that_must_fail_again_ends_the_run() -> None:
    class Dead:
        class sample:
            @staticmethod
            async def remote(*args: Any) -> None:
                raise ray.exceptions.RayTaskError("sample", "traceback", Refused("no such weights"))

    async def main() -> None:
        fleet = Fleet()
        fleet.take_in("a")
        fleet._members["a"].actor = Dead()
        request = SamplingRequest(VideoRef("v", "/v.mp4", 1), (1,), 1.0, 4)
        for _ in range(2):
            with pytest.raises(FleetExhausted, match="no such weights"):
                await fleet.sample([request], cast(ray.ObjectRef, None), cost_tokens=4)

    asyncio.run(main())


@pytest.mark.parametrize(
    "death",
    [
        ray.exceptions.ActorDiedError(),
        ray.exceptions.OutOfMemoryError(
            "1 worker(s) were killed due to the node running low on memory\nmore"
        ),
        ray.exceptions.NodeDiedError("its machine is gone"),
    ],
    ids=lambda death: type(death).__name__,
)
def test_a_worker_that_is_gone_is_lost_whatever_it_died_of(death: Exception) -> None:
    """Else it would stay in the set, and fail one video after another."""

    class Dead:
        class ping:
            @staticmethod
            async def remote() -> None:
                raise death

    member = Member("rollout-0", Dead(), cast(Placement, FakePlacement()), healthy=True)
    with pytest.raises(Lost, match="rollout-0.ping: the worker died: ") as lost:
        asyncio.run(ask(member, remote(RolloutWorker.ping), 5))
    assert "\n" not in str(lost.value)
