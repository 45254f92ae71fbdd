"""Learner and rollout workers over the transport that the hardware asks for: join, push, a kill, join again.

On GPUs weights are pushed over NCCL, and reach a worker that joins later through the object store; on the
CPU both go through the object store.
"""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu_smoke.models import random_frames, random_model
from benchmarks.gpu_smoke.sizes import Device, ModelSize, Setting
from cluster.config import RunConfig
from cluster.nccl_log import describe, read_nccl_logs
from cluster.preflight import read_job
from cluster.run_actors import RunActors
from data.records import SamplingRequest, VideoRef
from learner.records import TrainSample
from monitoring.run_dir import RunDirectory
from tests.gpu.conftest import setting_for
from tests.runs import make_set

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

N_FRAMES = 2
N_VIDEOS = 3
SEEDS = (1, 2, 3)
REPLACED_WITHIN_S = 240.0
TOLERANCE = {"cuda": 0.05, "cpu": 1e-4}
"""Mean difference between the log-probs of learner and engine."""


@dataclass(frozen=True)
class Shape:
    device: Device
    ranks: int
    gpus_per_replica: int


@pytest.fixture
def ray_session(request: pytest.FixtureRequest) -> Iterator[None]:
    """A Ray whose object store holds this module's models, unless the session has one."""
    import ray

    if ray.is_initialized():
        yield
        return
    store = 4 * 2**30 if request.getfixturevalue("shape").device == "cuda" else 300 * 2**20
    ray.init(num_cpus=8, object_store_memory=store, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def model_size(setting: Setting) -> ModelSize:
    """On GPUs 130 M parameters, of which two GPUs share the heads."""
    small = setting.sizes.small["internvl"]
    return small if setting.tiny else replace(small, layers=4, vision_layers=4, vocabulary=8192)


def run_config(shape: Shape, model: Path, manifest: Path, run_dir: Path) -> RunConfig:
    on_gpus = shape.device == "cuda"
    return RunConfig.model_validate(
        {
            "run_dir": str(run_dir),
            "model": {"path": str(model)},
            "data": {"manifest": str(manifest), "frames_per_video": N_FRAMES},
            "rollout": {
                "replicas": 1,
                "gpus_per_replica": shape.gpus_per_replica,
                "max_completion_tokens": 12,
                "max_model_tokens": 1024,
                "gpu_memory_utilization": 0.5,
            },
            "learner": {
                "ranks": shape.ranks,
                "gpus_per_rank": 1 if on_gpus else 0,
                "lr": 1e-3,
                "warmup_updates": 0,
                "kl_coefficient": 0.0,
            },
        }
    )


class Run:
    """A run's actors, asked one thing at a time."""

    def __init__(self, workers: RunActors, device: Device, px: int) -> None:
        import ray

        self.workers = workers
        self._tolerance = TOLERANCE[device]
        rng = np.random.default_rng(0)
        self._frames = [ray.put(random_frames(N_FRAMES, px, rng)) for _ in range(N_VIDEOS)]

    async def sample(self) -> list[TrainSample]:
        samples = []
        for number, frames in enumerate(self._frames):
            ref = VideoRef(f"v{number}", f"/v{number}.mp4", N_FRAMES)
            request = SamplingRequest(ref, SEEDS, temperature=1.0, max_tokens=12)
            (group,) = await self.workers.fleet.sample([request], frames, cost_tokens=100)
            samples.append(TrainSample(group, frames, [1.0, -0.5, -0.5]))
        return samples

    async def agree(self, version: int) -> list[TrainSample]:
        """The workers hold `version` and compute what the learner does; returns what they sampled."""
        samples = await self.sample()
        assert {v for s in samples for c in s.group.completions for v in c.versions} == {version}
        engine = [c.logprobs for s in samples for c in s.group.completions]
        assert await self._off(samples, engine) < self._tolerance
        return samples

    async def learn(self, samples: list[TrainSample]) -> None:
        """One update, after which the old log-probs no longer hold."""
        before = [row for rows in await self.workers.learner.logprobs(samples) for row in rows]
        metrics = await self.workers.learner.update(samples)
        assert metrics["learner/skipped"] == 0
        assert await self._off(samples, before) > 4 * self._tolerance, "agreement would prove nothing"

    async def _off(self, samples: list[TrainSample], rows: list[list[float]]) -> float:
        found = [row for group in await self.workers.learner.logprobs(samples) for row in group]
        return float(np.abs(np.concatenate(found) - np.concatenate(rows)).mean())

    async def replaced(self) -> None:
        """Kill the only worker; returns when another has joined."""
        (old,) = self.workers.fleet.infos
        os.kill(old.pid, signal.SIGKILL)
        answers = [asyncio.ensure_future(self.sample())]
        deadline = time.monotonic() + REPLACED_WITHIN_S
        while not (new := self.workers.fleet.infos) or new[0].worker_id == old.worker_id:
            assert time.monotonic() < deadline, "no other worker has joined"
            await asyncio.sleep(0.2)
        await asyncio.gather(*answers)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(Shape("cpu", 2, 0), marks=pytest.mark.slow, id="cpu"),
        pytest.param(Shape("cuda", 1, 1), marks=pytest.mark.gpu(2), id="two GPUs"),
        pytest.param(Shape("cuda", 2, 2), marks=pytest.mark.gpu(4), id="four GPUs, tensor parallel"),
    ],
)
def test_join_push_kill_join(
    shape: Shape, ray_session: None, folders: dict[Device, Path], tmp_path: Path
) -> None:
    setting = setting_for(shape.device, folders)
    size = model_size(setting)
    model = random_model("internvl", size, setting.folder / "linked", shape.device)
    faults: list[Any] = []
    recoveries: list[Any] = []

    async def run() -> None:
        run_dir = RunDirectory(tmp_path / "run")
        job = read_job(run_config(shape, model, make_set(tmp_path), run_dir.path))
        workers = RunActors(job, lambda *what: faults.append(what), lambda *what: recoveries.append(what))
        try:
            await workers.start(None)
            made = Run(workers, shape.device, size.frame_px)
            await made.learn(await made.agree(0))
            seconds = await workers.sync.push()
            print({name: round(value, 3) for name, value in seconds.items()})
            assert 0 < seconds["sync/pause_s"] <= seconds["sync/load_s"] < seconds["sync/s"]
            transports = read_nccl_logs(run_dir.nccl)
            print(describe(transports))
            assert bool(transports) == (shape.device == "cuda")
            samples = await made.agree(1)
            await made.replaced()
            await made.agree(1)
            await made.learn(samples)
            await workers.sync.push()
            await made.agree(2)
        finally:
            await workers.close()

    asyncio.run(run())
    assert [who for who, _ in faults] == ["rollout-0"]
    assert [(who, other) for who, other, _ in recoveries] == [("rollout-0", "rollout-1")]
