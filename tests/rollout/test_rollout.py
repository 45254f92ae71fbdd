"""Rollout workers around real engines: sampling, seeds, routing, and what happens when one dies."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.records import Group, Perturbation, SamplingRequest, VideoRef
from rollout.config import RolloutConfig
from rollout.errors import RolloutFailed
from rollout.fleet import RolloutFleet
from rollout.worker import RolloutWorker
from runtime.actors import remote
from tests.checkpoints import FRAME_PX
from tests.conftest import moving_frames

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

N_FRAMES = 3


def request(
    seeds: tuple[int | None, ...], temperature: float = 1.0, perturbed: bool = False, n_frames: int = N_FRAMES
) -> SamplingRequest:
    perturbation = Perturbation("reverse", 0) if perturbed else None
    return SamplingRequest(VideoRef("v", "/v.mp4", n_frames, perturbation), seeds, temperature, 10)


class CountingWorker(RolloutWorker):
    """Counts the frames that go through the engine's vision tower."""

    async def count_frames(self) -> None:
        def count(worker: Any) -> None:
            worker.frames = []
            worker.model_runner.model.vision_tower.register_forward_pre_hook(
                lambda _, args, named: worker.frames.append(len((*args, *named.values())[0])),
                with_kwargs=True,
            )

        await self._running._ask(lambda engine: engine.collective_rpc(count))  # type: ignore[attr-defined]

    async def counted_frames(self) -> int:
        counts = await self._running._ask(  # type: ignore[attr-defined]
            lambda engine: engine.collective_rpc(lambda worker: sum(worker.frames))
        )
        return int(counts[0])


def with_fleet(
    model: Path,
    replicas: int,
    work: Callable[[RolloutFleet], Awaitable[None]],
    worker_class: type[RolloutWorker] = RolloutWorker,
) -> None:
    config = RolloutConfig(
        replicas=replicas, max_completion_tokens=12, max_model_tokens=512, group_timeout_s=30
    )

    async def run() -> None:
        fleet = RolloutFleet(config, str(model), N_FRAMES, seed=0, worker_class=worker_class)
        try:
            await fleet.start(replicas)
            await work(fleet)
        finally:
            await fleet.close()
        assert fleet.healthy == []

    asyncio.run(run())


def texts(group: Group) -> list[str]:
    return [c.text for c in group.completions]


def test_one_engine(local_ray: None, internvl: Path) -> None:
    """Seeds, greedy decoding, the token mask, frames that are not square, bad requests, a group's cost and
    the end of the process, on one engine."""
    import ray
    from transformers import AutoProcessor

    from data.prompt import unsampleable_token_ids
    from learner.inputs import GroupEncoder
    from rollout.engine_arguments import CPU_KV_BLOCK_TOKENS

    processor = AutoProcessor.from_pretrained(internvl)
    barred = set(unsampleable_token_ids(processor))
    assert barred

    async def work(fleet: RolloutFleet) -> None:
        frames = ray.put(moving_frames(N_FRAMES, FRAME_PX["internvl"]))

        async def ask(*requests: SamplingRequest) -> list[Group]:
            return await fleet.sample(requests, frames, cost_tokens=40)

        clean, perturbed = await ask(request((1, 2, 1)), request((1, 2, 1), perturbed=True))
        assert texts(clean)[0] == texts(clean)[2]
        assert texts(clean)[0] != texts(clean)[1]
        assert clean.completions[0].logprobs != perturbed.completions[0].logprobs, "it sees other frames"
        for completion in (*clean.completions, *perturbed.completions):
            assert len(completion.logprobs) == len(completion.token_ids) == len(completion.versions)
            assert max(completion.logprobs) <= 0
            assert not barred & set(completion.token_ids)
            assert completion.finish_reason in ("stop", "length")
        assert clean.worker_id == perturbed.worker_id

        (again,) = await ask(request((1, 2, 1)))
        assert texts(again)[:2] == texts(clean)[:2]
        for shape in ((90, 160), (160, 90)):
            tall_or_wide = np.zeros((N_FRAMES, *shape, 3), np.uint8)
            (group,) = await fleet.sample([request((1,))], ray.put(tall_or_wide), cost_tokens=10)
            GroupEncoder(processor).encode(group, tall_or_wide)  # raises PromptMismatch unless they agree

        (greedy,) = await ask(request((None, None), temperature=0.0))
        assert texts(greedy)[0] == texts(greedy)[1]
        (unseeded,) = await ask(request((None,) * 4))
        assert len(set(texts(unseeded))) > 1

        with pytest.raises(RolloutFailed):
            await ask(request((1,), n_frames=N_FRAMES + 1))
        (afterwards,) = await ask(request((1,)))
        assert texts(afterwards) == texts(clean)[:1], "a request that cannot be served leaves the engine well"

        count, counted = remote(CountingWorker.count_frames), remote(CountingWorker.counted_frames)
        await fleet.ask_healthy(count, 30)
        unseen = ray.put(moving_frames(N_FRAMES, FRAME_PX["internvl"], seed=1))
        (group,) = await fleet.sample([request(tuple(range(8)))], unseen, cost_tokens=80)
        (frames_encoded,) = (await fleet.ask_healthy(counted, 30)).values()
        assert frames_encoded == N_FRAMES, "one vision encoding a group"
        whole_blocks = (len(group.prompt_token_ids) - 1) // CPU_KV_BLOCK_TOKENS
        assert whole_blocks >= 1
        assert group.cached_prompt_tokens >= 7 * whole_blocks * CPU_KV_BLOCK_TOKENS, "the prompt once a group"

    with_fleet(internvl, 1, work, CountingWorker)


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_its_work_is_done_again(local_ray: None, internvl: Path) -> None:
    """A kill and a hang (SIGSTOP) in the midst of work: every video is still answered."""
    import ray

    async def work(fleet: RolloutFleet) -> None:
        frames = ray.put(moving_frames(N_FRAMES, FRAME_PX["internvl"]))
        before = {info.worker_id: info.pid for info in fleet.infos}

        async def ask(number: int) -> Any:
            (group,) = await fleet.sample([request((number,))], frames, cost_tokens=10)
            return group

        killed, stopped = before.values()
        work = [asyncio.create_task(ask(n)) for n in range(12)]
        await asyncio.sleep(0.01)
        os.kill(killed, signal.SIGKILL)
        groups = await asyncio.gather(*work)
        assert len(groups) == 12
        while len(fleet.healthy) < 2:
            await asyncio.sleep(0.2)
        os.kill(stopped, signal.SIGSTOP)
        groups = await asyncio.gather(*(ask(n) for n in range(4)))
        assert len(groups) == 4
        deadline = time.monotonic() + 90
        while len(fleet.healthy) < 2 and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
        assert fleet.restarts == 2
        assert not set(before) & set(fleet.healthy)
        assert not Path(f"/proc/{stopped}").exists()

    with_fleet(internvl, 2, work)
