"""How the learner's group answers for its ranks: plain Ray actors stand in for them."""

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.errors import PermanentError
from data.records import Completion, Group, VideoRef
from learner.config import LearnerConfig
from learner.group import LearnerFailed, LearnerGroup
from learner.rank import LearnerRank
from learner.records import TrainSample
from runtime.actors import remote

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]


def outcome(*errors: Exception | None) -> BaseException:
    """What `leave` of a group raises whose ranks raise `errors`; one without stays in its collective."""
    import ray

    class Rank:  # inside, so that its process need not import this module, and torch with it
        def __init__(self, error: Exception | None) -> None:
            self._error = error

        def leave(self) -> None:
            if self._error is None:
                time.sleep(600)
            else:
                raise self._error

    actor: Any = ray.remote(num_cpus=0)(Rank)

    async def run() -> BaseException:
        learner = LearnerGroup(LearnerConfig(ranks=len(errors)), "model", 5)
        learner._ranks = [actor.remote(error) for error in errors]
        with pytest.raises((PermanentError, LearnerFailed)) as caught:
            await learner._call_all(remote(LearnerRank.leave), 60)
        assert not learner._ranks, "all ranks have ended"
        return caught.value

    return asyncio.run(run())


def test_an_error_that_must_repeat_comes_out_as_it_was_raised(local_ray: None) -> None:
    """Not as LearnerFailed, which restarts the ranks; whatever the other ranks say of it."""
    mismatch = PermanentError("the engine's prompt has 296 tokens, the learner's 152")
    broken = RuntimeError("Connection closed by peer")
    found = outcome(broken, mismatch, None)
    assert type(found) is PermanentError
    assert str(found) == str(mismatch)
    assert isinstance(outcome(broken, None), LearnerFailed)


def test_ranks_that_were_killed_are_gone_when_the_group_is_closed(local_ray: None) -> None:
    """One is stopped and does not end when it is called to: new ranks must not meet the memory it holds."""
    import ray

    class Rank:
        def process(self) -> tuple[str, int]:
            return ray.get_runtime_context().get_node_id(), os.getpid()

        def leave(self) -> None:
            raise RuntimeError("Connection closed by peer")

    actor: Any = ray.remote(num_cpus=0)(Rank)

    async def run() -> tuple[list[int], list[bool]]:
        learner = LearnerGroup(LearnerConfig(ranks=2), "model", 5, shutdown_timeout_s=60)
        learner._ranks = [actor.remote() for _ in range(2)]
        learner._processes = await learner._call_all(remote(LearnerRank.process), 60)
        pids = [pid for _, pid in learner._processes]
        os.kill(pids[1], signal.SIGSTOP)
        with pytest.raises(LearnerFailed):
            await learner._call_all(remote(LearnerRank.leave), 60)
        running = [Path(f"/proc/{pid}").exists() for pid in pids]
        await learner.close()
        return pids, running

    pids, running = asyncio.run(run())
    assert any(running), "killed, but not gone yet"
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_the_group_counts_versions(local_ray: None, tmp_path: Path) -> None:
    """From the checkpoint's on; an update without samples is one, and a failed one is none."""
    import ray

    class Rank:
        def weight_buckets(self) -> list[Any]:
            return []

        def update(self, version: int, shard: Any, frames: Any) -> dict[str, float]:
            if version == 6:
                raise RuntimeError("Connection closed by peer")
            return {"version": version}

        def gather_weights(self) -> None: ...

        def send_weights(self) -> float:
            return 0.5

        def save(self, folder: Path, extra: dict[str, Any]) -> None:
            folder.write_text(json.dumps(extra))

    actor: Any = ray.remote(num_cpus=0)(Rank)

    async def run() -> None:
        learner = LearnerGroup(LearnerConfig(), "model", 9)
        learner._ranks, learner.version = [actor.remote()], 4
        group = Group(VideoRef("v", "/v.mp4", 1), [0, 1], [Completion([2], [0.0], "", "stop", [4])])
        samples = [TrainSample(group, ray.put(np.zeros(1)), [0.0])]
        assert await learner.update(samples) == {"version": 4, "learner/lockstep": 1.0}
        assert await learner.update([]) == {}
        assert (await learner.weight_buckets()).version == 6
        assert await learner.gather_weights() == 6
        assert await learner.send_weights(timeout_s=30) == 0.5
        await learner.save(tmp_path / "extra.json", {"seconds": 1})
        assert json.loads((tmp_path / "extra.json").read_text()) == {"seconds": 1, "version": 6}
        with pytest.raises(LearnerFailed):
            await learner.update(samples)
        assert learner.version == 6

    asyncio.run(run())
