"""The two sides of a family's test, each in a process of its own that takes one family after another.

Functions named `engine_*` run in the one, `learner_*` in the other; a process keeps what it started in this
module's globals. Importing the libraries costs more than a tiny model.
"""

import asyncio
import multiprocessing as mp
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.records import Group, SamplingRequest, VideoRef
from data.tensor_bytes import Bucket
from learner.config import LearnerConfig
from rollout.config import RolloutConfig

TOKENS = 8
ROLLOUT = RolloutConfig(max_completion_tokens=TOKENS, max_model_tokens=4096)
LEARNER = LearnerConfig(ranks=1, lr=1e-2, warmup_updates=0, kl_coefficient=0.0)

Buckets = list[Bucket]

_here: dict[str, Any] = {}


@contextmanager
def own_process(environment: Mapping[str, str] | None = None) -> Iterator[ProcessPoolExecutor]:
    """An executor of one process, which is killed at the end whatever it does."""
    pool = ProcessPoolExecutor(1, mp.get_context("spawn"), _set_environment, (dict(environment or {}),))
    try:
        yield pool
    finally:
        processes = list(pool._processes.values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()
            process.join()


def _set_environment(variables: dict[str, str]) -> None:
    os.environ.update(variables)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# The engine's process


def engine_start(path: Path, n_frames: int, largest_px: int) -> None:
    from data.frame_tokens import FrameTokens
    from rollout.engine_arguments import EngineSettings
    from rollout.engine_in_process import InProcessEngine

    settings = EngineSettings(
        str(path), n_frames, ROLLOUT, seed=0, frame_tokens=FrameTokens(largest_px=largest_px)
    )
    _here["loop"] = asyncio.new_event_loop()
    _here["engine"] = InProcessEngine(settings)
    _here["loop"].run_until_complete(_here["engine"].start())


def engine_sample(videos: Sequence[np.ndarray], first_seed: int) -> list[Group]:
    """A group of two completions for each of `videos`."""

    async def sample() -> list[Group]:
        requests = [
            SamplingRequest(
                VideoRef(f"v{number}", f"/v{number}.mp4", len(frames), None),
                seeds=(first_seed + 10 * number, first_seed + 10 * number + 1),
                temperature=1.0,
                max_tokens=TOKENS,
            )
            for number, frames in enumerate(videos)
        ]
        engine = _here["engine"]
        return [await engine.generate(r, f) for r, f in zip(requests, videos, strict=True)]

    groups: list[Group] = _here["loop"].run_until_complete(sample())
    return groups


def engine_load(version: int, buckets: Buckets) -> None:
    async def one_by_one() -> AsyncIterator[Bucket]:
        for bucket in buckets:
            yield bucket

    _here["loop"].run_until_complete(_here["engine"].load_weights(version, one_by_one()))


def engine_stop() -> None:
    _here["loop"].run_until_complete(_here.pop("engine").close())
    _here.pop("loop").close()


# The learner's process


@dataclass(frozen=True)
class Loaded:
    """What the learner made of a checkpoint."""

    layout: str
    obstacle: str | None
    tied: bool


def learner_join(port: int) -> None:
    import torch

    from learner.zero import Rendezvous, join_process_group

    torch.set_num_threads(1)
    join_process_group(Rendezvous("127.0.0.1", port, 0, 1, 60), "cpu")


def learner_load(path: Path) -> Loaded:
    from learner.policy import obstacle_to_packing
    from learner.trainer import LearnerSpec, Trainer

    trainer = Trainer(LearnerSpec(LEARNER, str(path), 20, 1.0, "cpu"))
    _here["trainer"] = trainer
    model = trainer.engine.module.model
    return Loaded(trainer.layout, obstacle_to_packing(model, LEARNER), model.config.tie_word_embeddings)


def learner_logprobs(groups: Sequence[Group], videos: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Of each group's tokens. Raises PromptMismatch if a prompt is not the engine's."""
    rows = _here["trainer"].logprobs(_shard(groups), videos)
    return [np.concatenate(row) for row in rows]


def learner_update(groups: Sequence[Group], videos: Sequence[np.ndarray]) -> Buckets:
    """The weights after an update."""
    from data.tensor_bytes import bucket_of
    from learner.weights import gather_buckets

    trainer = _here["trainer"]
    trainer.update(_shard(groups), videos, 0)
    return [bucket_of(bucket) for bucket in gather_buckets(trainer.engine.module, 2**20)]


def _shard(groups: Sequence[Group]) -> Any:
    from learner.records import RankShard

    advantages = [[1.0, -1.0] for _ in groups]
    completions = sum(len(g.completions) for g in groups)
    return RankShard(list(groups), advantages, False, completions, sum(g.n_tokens for g in groups))
