"""Engine and learner compute the same policy, also while it is trained."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.config import RunConfig
from cluster.planning.adapters import adapter_serving
from cluster.planning.architecture import read_architecture
from cluster.weight_sync import make_weight_sync
from data.perturb import draw_perturbation
from data.records import Group, SamplingRequest, VideoRef
from learner.group import LearnerGroup
from learner.records import TrainSample
from rollout.fleet import RolloutFleet
from tests.checkpoints import FRAME_PX, make_checkpoint
from tests.conftest import moving_frames

pytestmark = [pytest.mark.engine, pytest.mark.timeout(420)]

N_FRAMES = 3
TOLERANCE = 1e-4


def small_config(model: Path, **learner: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {"path": str(model)},
            "rollout": {"replicas": 1, "max_completion_tokens": 12, "max_model_tokens": 512},
            "learner": {"ranks": 2, "lr": 1e-3, "warmup_updates": 0, "kl_coefficient": 0.04} | learner,
        }
    )


class Graph:
    """Engine, learner and the weights' way between them, without the control loop."""

    def __init__(self, config: RunConfig) -> None:
        path = config.model.path
        adapters = adapter_serving(config, read_architecture(path))
        send = adapters is not None
        self.learner = LearnerGroup(config.learner, path, total_updates=20, send_adapters=send)
        self.fleet = RolloutFleet(
            config.rollout, path, N_FRAMES, seed=0, adapters=adapters, on_join=self.join
        )
        self.sync = make_weight_sync(self.learner, self.fleet, config, send)
        self.config = config

    async def start(self) -> None:
        await asyncio.gather(self.learner.start(), self.fleet.start(self.config.rollout.replicas))

    async def join(self, worker_id: str) -> None:
        await self.sync.join(worker_id)

    async def close(self) -> None:
        await asyncio.gather(self.learner.close(), self.fleet.close())

    async def sample(self, number: int, round_: int) -> list[TrainSample]:
        """A clean and a perturbed group of video `number`, with advantages that mean nothing."""
        import ray

        frames = ray.put(moving_frames(N_FRAMES, FRAME_PX["internvl"], seed=number))
        perturbation = draw_perturbation(0, round_, 0, f"v{number}", N_FRAMES)
        requests = [
            SamplingRequest(
                VideoRef(f"v{number}", f"/v{number}.mp4", N_FRAMES, p),
                seeds=tuple(1000 * round_ + 100 * number + 10 * copy + i for i in range(3)),
                temperature=1.0,
                max_tokens=12,
            )
            for copy, p in enumerate((None, perturbation))
        ]
        groups = await self.fleet.sample(requests, frames, cost_tokens=72)
        return [TrainSample(g, frames, [1.0, -0.5, -0.5]) for g in groups]

    async def largest_difference(self, round_: int) -> tuple[float, list[Group]]:
        samples = [s for number in range(3) for s in await self.sample(number, round_)]
        found = await self.learner.logprobs(samples)
        differences = [
            np.abs(np.array(completion.logprobs) - np.array(ours)).max()
            for sample, rows in zip(samples, found, strict=True)
            for completion, ours in zip(sample.group.completions, rows, strict=True)
        ]
        return float(max(differences)), [s.group for s in samples]


def with_graph(model: Path, work: Callable[[Graph], Awaitable[None]], **learner: Any) -> None:
    async def run() -> None:
        graph = Graph(small_config(model, **learner))
        try:
            await graph.start()
            await work(graph)
        finally:
            await graph.close()

    asyncio.run(run())


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its output projection has no tensor of its own: an engine must find out that it changed with the
    embeddings."""
    return make_checkpoint("internvl", tmp_path_factory.mktemp("models") / "tied", tie_word_embeddings=True)


def drift(old: list[list[list[float]]], new: list[list[list[float]]]) -> float:
    """How far log-probs moved; agreement on a policy that has not changed would prove nothing."""
    rows = [pair for x, y in zip(old, new, strict=True) for pair in zip(x, y, strict=True)]
    return max(abs(a - b) for p, q in rows for a, b in zip(p, q, strict=True))


def test_log_probs_agree_before_the_first_and_after_the_tenth_update(local_ray: None, tied: Path) -> None:
    """Also with perturbed copies and the vision tower trained; and the weights do change."""
    import ray

    async def work(graph: Graph) -> None:
        before, _ = await graph.largest_difference(round_=0)
        assert before < TOLERANCE
        first = ray.get((await graph.learner.weight_buckets()).buckets)
        old_samples = [s for number in range(2) for s in await graph.sample(number, 99)]
        old = await graph.learner.logprobs(old_samples)

        for version in range(10):
            samples = [s for number in range(3) for s in await graph.sample(number, version)]
            assert {v for s in samples for c in s.group.completions for v in c.versions} == {version}
            await graph.learner.update(samples)
            await graph.sync.push()

        after, groups = await graph.largest_difference(round_=100)
        assert after < TOLERANCE
        assert {g.oldest_version for g in groups} == {10}, "the engine says which weights it holds"
        weights = await graph.learner.weight_buckets()
        assert weights.version == 10
        last = ray.get(weights.buckets)
        moved = {
            n: float((a[n].tensor() - b[n].tensor()).abs().max())
            for a, b in zip(first, last, strict=True)
            for n in a
        }
        assert max(v for n, v in moved.items() if "vision_tower" in n) > 1e-3
        assert max(v for n, v in moved.items() if "language_model" in n) > 1e-3
        assert drift(old, await graph.learner.logprobs(old_samples)) > 100 * TOLERANCE

    with_graph(tied, work)


@pytest.mark.slow
def test_log_probs_agree_where_engines_serve_adapters(local_ray: None, tied: Path) -> None:
    """Ten large updates, and a worker that joins after them; the adapter is all that is sent."""
    import ray

    async def work(graph: Graph) -> None:
        assert (await graph.largest_difference(round_=0))[0] < TOLERANCE
        old_samples = [s for number in range(2) for s in await graph.sample(number, 99)]
        old = await graph.learner.logprobs(old_samples)
        for version in range(10):
            samples = [s for number in range(3) for s in await graph.sample(number, version)]
            assert {v for s in samples for c in s.group.completions for v in c.versions} == {version}
            await graph.learner.update(samples)
            await graph.sync.push()
        after, groups = await graph.largest_difference(round_=100)
        assert after < TOLERANCE
        assert {g.oldest_version for g in groups} == {10}
        assert drift(old, await graph.learner.logprobs(old_samples)) > 100 * TOLERANCE
        (bucket,) = ray.get((await graph.learner.weight_buckets()).buckets)
        assert all(".lora_" in name for name in bucket)

        await graph.fleet.resize(2)
        assert await graph.fleet.ping_everyone() == {"rollout-0": 10, "rollout-1": 10}
        await graph.fleet.remove("rollout-0")
        difference, groups = await graph.largest_difference(round_=101)
        assert difference < TOLERANCE
        assert {g.worker_id for g in groups} == {"rollout-1"}

    with_graph(tied, work, lr=1e-2, lora={"rank": 4, "alpha": 8.0})
