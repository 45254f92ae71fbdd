"""Handing weights over: NCCL ranks, membership and confirmation, with fakes in place of GPUs, and overlap."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from cluster import weight_sync
from cluster.config import load_config
from cluster.weight_sync import NcclSync, ObjectStoreSync
from data.records import Weights
from learner.group import LearnerFailed, LearnerGroup
from learner.weight_transfer import WeightLayout, weight_layout
from learner.weights import send_behind
from monitoring.metric_table import METRICS
from rollout.errors import RolloutFailed
from rollout.fleet import RolloutFleet
from rollout.worker import HeldVersion
from runtime.calls import one_ahead

GPUS = ["--learner.gpus_per_rank=1", "--rollout.gpus_per_replica=2"]


class FakeLearner:
    """`fails` holds what becomes of a call by its name: an error, or None for one that never returns."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.groups: list[int] = []
        self.sent = 0
        self.fails: dict[str, Exception | None] = {}
        self.abandoned = False
        self.version = 0

    async def weight_layout(self) -> WeightLayout:
        return WeightLayout(["a"], ["bfloat16"], [[2]])

    async def transfer_address(self) -> tuple[str, int]:
        return "node", 1234

    async def join_transfer(self, host: str, port: int, world_size: int, timeout_s: float) -> None:
        self.groups.append(world_size)
        await outcome("join_transfer", self.fails)

    async def gather_weights(self) -> int:
        self.log.append("gathered")
        return self.version

    async def send_weights(self, timeout_s: float) -> float:
        await outcome("send_weights", self.fails)
        self.sent += 1
        return 0.5

    def abandon(self) -> None:
        self.abandoned = True

    async def weight_buckets(self) -> Weights:
        return Weights(self.version, [])


class FakeFleet:
    """`fails` as a learner's, by worker and method."""

    def __init__(self, workers: list[str]) -> None:
        self.workers = workers
        self.init_infos: list[dict[str, Any]] = []
        self.held: dict[str, int] = {}
        self.stuck: set[str] = set()
        self.fails: dict[tuple[str, str], Exception | None] = {}
        self.given_up: dict[str, bool] = {}
        self.log: list[str] = []

    async def ping_everyone(self) -> dict[str, int]:
        self.workers = [w for w in self.workers if (w, "ping") not in self.fails]
        return dict.fromkeys(self.workers, 0)

    def give_up(self, worker_id: str, reason: str, its_fault: bool) -> None:
        self.workers.remove(worker_id)
        self.given_up[worker_id] = its_fault

    @asynccontextmanager
    async def settled(self) -> AsyncIterator[list[str]]:
        yield list(self.workers)

    async def open_transfer(self, worker_id: str, init_info: dict[str, Any]) -> None:
        self.log.append("opened")
        self.init_infos.append(init_info)
        await outcome((worker_id, "open_transfer"), self.fails)

    async def receive_weights(self, worker_id: str, version: int, update_info: dict[str, Any]) -> HeldVersion:
        self.log.append("received")
        await outcome((worker_id, "receive_weights"), self.fails)
        return self._hold(worker_id, version)

    async def load_weights(self, worker_id: str, weights: Weights) -> HeldVersion:
        return self._hold(worker_id, weights.version)

    async def load_weights_everywhere(self, weights: Weights) -> dict[str, HeldVersion]:
        return {worker: self._hold(worker, weights.version) for worker in self.workers}

    def _hold(self, worker_id: str, version: int) -> HeldVersion:
        if worker_id not in self.stuck:
            self.held[worker_id] = version
        return HeldVersion(self.held.get(worker_id, 0), pause_s=len(worker_id) / 4)


async def outcome(call: Any, fails: Mapping[Any, Exception | None]) -> None:
    if call in fails:
        if (error := fails[call]) is None:
            await asyncio.Event().wait()
        else:
            raise error


def make(workers: list[str]) -> tuple[NcclSync, FakeLearner, FakeFleet]:
    learner, fleet = FakeLearner(), FakeFleet(workers)
    config = load_config(None, GPUS)
    return NcclSync(cast(LearnerGroup, learner), cast(RolloutFleet, fleet), config), learner, fleet


async def push(sync: NcclSync, learner: FakeLearner, version: int) -> None:
    learner.version = version
    await sync.push()


def test_every_engine_rank_has_a_place_of_its_own() -> None:
    sync, learner, fleet = make(["r0", "r1", "r2"])
    asyncio.run(push(sync, learner, 1))
    infos = fleet.init_infos
    assert learner.groups == [7]
    taken = [info["rank_offset"] + rank for info in infos for rank in range(2)]
    assert sorted(taken) == [1, 2, 3, 4, 5, 6], "rank 0 is the learner's"
    assert {info["world_size"] for info in infos} == {7}
    assert fleet.held == {"r0": 1, "r1": 1, "r2": 1}


def test_engines_pause_once_the_whole_model_is_gathered() -> None:
    sync, learner, fleet = make(["r0"])
    fleet.log = learner.log
    asyncio.run(push(sync, learner, 1))
    assert learner.log == ["gathered", "opened", "received"]


@pytest.mark.parametrize("transport", [NcclSync, ObjectStoreSync])
def test_a_push_says_how_long_each_phase_and_the_longest_pause_took(transport: type) -> None:
    learner, fleet = FakeLearner(), FakeFleet(["r0", "r12345"])
    sync = transport(cast(LearnerGroup, learner), cast(RolloutFleet, fleet), load_config(None, GPUS))
    seconds = asyncio.run(sync.push())
    assert seconds["sync/pause_s"] == 1.5
    phases = ["gather_s", "load_s"] if transport is ObjectStoreSync else ["gather_s", "open_s", "load_s"]
    assert sum(seconds[f"sync/{phase}"] for phase in phases) == pytest.approx(seconds["sync/s"])
    assert seconds.get("sync/broadcast_s") == (None if transport is ObjectStoreSync else 0.5)
    assert all(name in METRICS for name in seconds)


def test_the_group_is_opened_anew_only_when_the_workers_change() -> None:
    sync, learner, fleet = make(["r0", "r1"])

    async def pushes() -> None:
        await push(sync, learner, 1)
        await push(sync, learner, 2)
        fleet.workers = ["r1", "r5"]
        await push(sync, learner, 3)

    asyncio.run(pushes())
    assert learner.groups == [5, 5]
    assert learner.sent == 3
    assert fleet.held == {"r0": 2, "r1": 3, "r5": 3}


def test_a_newcomer_gets_the_weights_that_the_others_hold() -> None:
    sync, learner, fleet = make(["r0"])

    async def join_twice() -> None:
        await sync.join("early")
        await push(sync, learner, 4)
        await sync.join("late")

    asyncio.run(join_twice())
    assert fleet.held == {"r0": 4, "late": 4}, "before the first update all hold the base model"


@pytest.mark.parametrize(
    ("pushed", "updated"),
    [(4, 4), (4, 5)],
    ids=["between updates", "once an update is done"],
)
def test_what_a_newcomer_loads_bears_the_version_that_it_is_of(pushed: int, updated: int) -> None:
    """The learner hands out no weights before the update in progress is done, and they are its result."""
    sync, learner, fleet = make(["r0"])

    async def join_after_update() -> None:
        await push(sync, learner, pushed)
        learner.version = updated
        await sync.join("late")

    asyncio.run(join_after_update())
    assert fleet.held["late"] == updated


def test_an_engine_that_confirms_another_version_is_an_error() -> None:
    sync, learner, fleet = make(["r0", "r1"])
    fleet.stuck = {"r1"}
    with pytest.raises(RuntimeError, match=r"other versions than 1 .*'r1': 0"):
        asyncio.run(push(sync, learner, 1))


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_sync, "GRACE_S", 0.01)


def test_a_worker_lost_in_a_push_that_the_others_come_through_is_replaced() -> None:
    """It died once it had its share: learner and others go on, in a group of their own."""
    sync, learner, fleet = make(["r0", "r1", "r2"])
    fleet.fails["r1", "receive_weights"] = RolloutFailed("r1 died")

    async def pushes() -> None:
        await push(sync, learner, 1)
        fleet.workers = ["r0", "r2"]
        await push(sync, learner, 2)

    asyncio.run(pushes())
    assert fleet.given_up == {"r1": True}
    assert fleet.held == {"r0": 2, "r2": 2}
    assert learner.groups == [7, 5]
    assert not learner.abandoned


@pytest.mark.parametrize(
    ("sender", "method"), [("send_weights", "receive_weights"), ("join_transfer", "open_transfer")]
)
def test_a_lost_worker_that_holds_the_learner_inside_has_it_restarted(
    sender: str, method: str, no_grace: None
) -> None:
    """The others are inside, too, through no fault of theirs."""
    sync, learner, fleet = make(["r0", "r1", "r2"])
    fleet.fails = {("r1", method): RolloutFailed("r1 died"), ("r2", method): None}
    learner.fails[sender] = None
    with pytest.raises(LearnerFailed, match="still in a weight transfer 0.01 s after r1 died"):
        asyncio.run(push(sync, learner, 1))
    assert fleet.given_up == {"r1": True, "r2": False}
    assert learner.abandoned


def test_workers_that_a_failed_sender_leaves_inside_are_replaced(no_grace: None) -> None:
    sync, learner, fleet = make(["r0", "r1"])
    fleet.fails = {("r0", "receive_weights"): None}
    learner.fails["send_weights"] = LearnerFailed("rank 0 died")
    with pytest.raises(LearnerFailed, match="rank 0 died"):
        asyncio.run(push(sync, learner, 1))
    assert fleet.given_up == {"r0": False}


def test_a_group_is_opened_again_without_those_who_were_lost_in_opening_it() -> None:
    sync, learner, fleet = make(["r0", "r1"])
    fleet.fails["r0", "open_transfer"] = RolloutFailed("r0 died")
    asyncio.run(push(sync, learner, 1))
    assert learner.groups == [5, 3]
    assert (learner.sent, fleet.held) == (1, {"r1": 1})


def test_a_worker_that_died_idle_takes_no_part() -> None:
    sync, learner, fleet = make(["r0", "r1"])
    fleet.fails["r0", "ping"] = RolloutFailed("r0 died")
    asyncio.run(push(sync, learner, 1))
    assert (learner.groups, fleet.held) == ([3], {"r1": 1})


def test_with_no_worker_left_nothing_is_sent_and_newcomers_ask() -> None:
    sync, learner, fleet = make([])

    async def push_and_join() -> None:
        await push(sync, learner, 3)
        await sync.join("late")

    asyncio.run(push_and_join())
    assert (learner.sent, learner.groups) == (0, [])
    assert fleet.held == {"late": 3}


def test_layout_names_the_policys_weights() -> None:
    policy = nn.ModuleDict({"model": nn.Linear(3, 2, bias=False, dtype=torch.bfloat16)})
    assert weight_layout(policy) == WeightLayout(["weight"], ["bfloat16"], [[2, 3]])


def test_the_next_bucket_is_gathered_while_one_is_sent() -> None:
    gathered = [threading.Event() for _ in range(4)]
    sent: list[int] = []

    def gather() -> Iterator[dict[str, Tensor]]:
        for number, event in enumerate(gathered):
            assert len(sent) >= number - 1, "three buckets in memory"
            event.set()
            yield {"number": torch.tensor(number)}

    def send(bucket: dict[str, Tensor]) -> int:
        number = int(bucket["number"])
        if number + 1 < len(gathered):
            assert gathered[number + 1].wait(timeout=30), "sent before the next one was gathered"
        sent.append(number)
        return number

    assert send_behind(gather(), send) == [0, 1, 2, 3]


def test_a_bucket_that_cannot_be_sent_is_an_error() -> None:
    def full(bucket: dict[str, Tensor]) -> None:
        raise MemoryError("object store")

    with pytest.raises(MemoryError, match="object store"):
        send_behind(({"a": torch.zeros(1)} for _ in range(3)), full)


def test_one_call_is_under_way_while_the_result_before_it_is_used() -> None:
    async def use() -> list[tuple[int, list[int]]]:
        begun: list[int] = []

        async def call(number: int) -> int:
            begun.append(number)
            await asyncio.sleep(0)
            return number

        used = []
        async for result in one_ahead(call(number) for number in range(4)):
            await asyncio.sleep(0.01)
            used.append((result, list(begun)))
        return used

    assert asyncio.run(use()) == [(0, [0, 1]), (1, [0, 1, 2]), (2, [0, 1, 2, 3]), (3, [0, 1, 2, 3])]


def test_the_call_under_way_ends_with_the_one_that_fails() -> None:
    async def use() -> bool:
        ended = asyncio.Event()

        async def fail() -> int:
            await asyncio.sleep(0)
            raise ValueError("gone")

        async def wait() -> int:
            try:
                return await asyncio.sleep(60, 1)
            finally:
                ended.set()

        with pytest.raises(ValueError, match="gone"):
            async for _ in one_ahead(call() for call in (fail, wait)):
                pass
        return ended.is_set()

    assert asyncio.run(use())
