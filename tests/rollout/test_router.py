"""Routing: everything asked for is handed out once, oldest first, and nobody is overloaded."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.router import Router


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    capacity=st.integers(1, 20),
    costs=st.lists(st.integers(1, 25), min_size=1, max_size=60),
)
def test_whatever_happens_work_is_handed_out_once_and_within_capacity(
    seed: int, capacity: int, costs: list[int]
) -> None:
    """Workers come and go, requests are cancelled, and nothing is lost or done by two."""
    dice = random.Random(seed)
    load: dict[str, list[int]] = {}
    served: list[int] = []

    async def request(router: Router[str], number: int, cost: int) -> None:
        while True:
            worker = await router.acquire(cost)
            if worker not in load:
                continue  # it left before it could be asked
            mine = load[worker]
            mine.append(cost)
            assert sum(mine) <= capacity or mine == [cost]
            try:
                await asyncio.sleep(0)
            finally:
                mine.remove(cost)
                router.release(worker, cost)
            if worker in load:
                break
        served.append(number)

    async def main() -> None:
        router: Router[str] = Router(capacity)
        tasks = [asyncio.create_task(request(router, i, c)) for i, c in enumerate(costs)]
        dropped = {i for i in range(len(costs)) if dice.random() < 0.1}
        for step in range(30):
            if dice.random() < 0.5:
                load[f"w{step}"] = []
                router.join(f"w{step}")
            if load and dice.random() < 0.2:
                worker = dice.choice(list(load))
                router.leave(worker)
                del load[worker]
            await asyncio.sleep(0)
            if step == 3:
                for i in dropped:
                    tasks[i].cancel()
        load["last"] = []
        router.join("last")
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert not [r for r in results if isinstance(r, Exception)]
        called_off = {i for i, r in enumerate(results) if isinstance(r, asyncio.CancelledError)}
        assert called_off <= dropped
        assert sorted(served) == sorted(set(range(len(costs))) - called_off)
        assert router.waiting == 0
        assert all(router.outstanding(worker) == 0 for worker in load)

    asyncio.run(main())
    load.clear()


def test_the_oldest_goes_first_and_to_the_least_loaded() -> None:
    async def main() -> None:
        router: Router[str] = Router(capacity=10)
        router.join("a")
        router.join("b")
        assert [await router.acquire(6), await router.acquire(5)] == ["a", "b"]
        assert await router.acquire(4) == "b", "5 is less than 6"
        first, second = (asyncio.create_task(router.acquire(c)) for c in (8, 1))
        await asyncio.sleep(0)
        assert router.waiting == 2, "a small one does not overtake a large one, which would wait for ever"
        router.release("b", 9)
        assert [await first, await second] == ["b", "a"]

    asyncio.run(main())


def test_an_idle_worker_takes_what_is_larger_than_its_capacity() -> None:
    async def main() -> None:
        router: Router[str] = Router(capacity=4)
        router.join("a")
        assert await router.acquire(100) == "a"

    asyncio.run(main())


def test_those_who_wait_are_told_of_a_failure() -> None:
    async def main() -> None:
        router: Router[str] = Router(capacity=4)
        waiting = asyncio.create_task(router.acquire(1))
        await asyncio.sleep(0)
        router.fail(RuntimeError("no worker is left"))
        with pytest.raises(RuntimeError, match="no worker is left"):
            await waiting

    asyncio.run(main())
