import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.buffer import CohortBuffer, UpdatePlan

plans = st.builds(UpdatePlan, st.integers(1, 20), st.integers(1, 7), st.integers(1, 40))


@given(plans)
def test_every_cohort_belongs_to_exactly_one_update_and_none_mixes_epochs(plan: UpdatePlan) -> None:
    cohorts = [c for update in range(plan.total_updates) for c in plan.cohorts_of(update)]
    assert cohorts == list(range(plan.total_cohorts))
    for update in range(plan.total_updates):
        members = plan.cohorts_of(update)
        assert {plan.update_of(c) for c in members} == {update}
        assert len({c // plan.cohorts_per_epoch for c in members}) == 1


@given(plans, st.integers(0, 3), st.integers(0, 2**16))
def test_no_cohort_is_trained_staler_than_the_bound(plan: UpdatePlan, bound: int, seed: int) -> None:
    random = Random(seed)

    async def run() -> None:
        buffer: CohortBuffer[int] = CohortBuffer(plan, bound)
        born: dict[int, int] = {}

        async def sample(cohort: int) -> None:
            for _ in range(random.randint(0, 3)):
                await asyncio.sleep(0)
            await buffer.add(cohort, cohort)

        async def sample_all() -> None:
            tasks = []
            for cohort in range(plan.total_cohorts):
                await buffer.admit(cohort)
                born[cohort] = buffer.version
                tasks.append(asyncio.create_task(sample(cohort)))
            await asyncio.gather(*tasks)

        sampling = asyncio.create_task(sample_all())
        seen = []
        for update in range(plan.total_updates):
            taken = await buffer.take(update)
            seen += taken
            assert all(update - born[c] <= bound for c in taken)
            assert await buffer.advance() == update + 1
        await sampling
        assert seen == list(range(plan.total_cohorts))

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_bound_of_one_lets_the_next_update_start_and_no_later_one() -> None:
    async def run() -> None:
        buffer: CohortBuffer[int] = CohortBuffer(UpdatePlan(10, 2, 10), max_staleness=1)
        await asyncio.wait_for(buffer.admit(3), 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(buffer.admit(4), 0.05)
        await buffer.advance()
        await asyncio.wait_for(buffer.admit(4), 1)

    asyncio.run(run())
