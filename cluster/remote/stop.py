"""Ends a run from another process: `launch.py stop`."""

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import ray

from cluster.controller_actor import ANSWER_TIMEOUT_S, ControllerActor, actor_name
from cluster.remote.whereabouts import AUTH_MODE, NOTE, Whereabouts
from monitoring.run_dir import RunDirectory
from runtime.actors import RemoteCall, explained, remote
from runtime.calls import DeadlineError
from runtime.config import ClusterConfig
from runtime.errors import CommandFailed, ConfigError
from runtime.session import cluster_address, join_cluster

T = TypeVar("T")


class AskFailed(CommandFailed):
    """A run did not carry out a request, or did not answer. The message says why."""


def ask_run(run: Whereabouts, call: RemoteCall[ControllerActor, T], timeout_s: float) -> T:
    """Call a method of a run's controller, and return its result.

    Raises:
        ConfigError: if no such run is active.
        AskFailed: if the call fails, the run ends meanwhile, or there is no answer in time.
    """
    address = run.address or cluster_address(ClusterConfig()) or "auto"
    join_cluster(address)
    try:
        return asyncio.run(_ask(run.name, address, call, timeout_s))
    except DeadlineError as error:
        raise AskFailed(str(error)) from error
    except ray.exceptions.RayError as error:
        raise AskFailed(f"{actor_name(run.name)}.{call.method}: {explained(error)}") from error
    finally:
        ray.shutdown()  # if the run started Ray, Ray ends with it and would end this process too


async def _ask(name: str, address: str, call: RemoteCall[ControllerActor, T], timeout_s: float) -> T:
    try:
        controller = ray.get_actor(actor_name(name))
    except ValueError:
        prefix = actor_name("")
        others = [n.removeprefix(prefix) for n in ray.util.list_named_actors() if n.startswith(prefix)]
        raise ConfigError(
            f"no run named '{name}' is active at {address}; active there: {', '.join(others) or 'none'}"
        ) from None
    return await call.on(controller, actor_name(name), timeout_s)


POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a run after `updates` updates. `checkpoint_version` is the version of its newest checkpoint;
    None if it has none."""

    run_dir: Path
    updates: int
    checkpoint_version: int | None
    finished: bool

    @property
    def outcome(self) -> str:
        """Return a text that says which checkpoint exists and how to resume."""
        if self.finished:
            return f"it had finished; its model is in {self.run_dir / 'final'}"
        if self.checkpoint_version is None:
            return f"{self.run_dir} holds no checkpoint"
        lost = self.updates - self.checkpoint_version
        return (
            f"a checkpoint holds {f'all but the last {lost}' if lost else 'all'} of them. "
            f"Resume with: launch.py train --resume --run_dir={self.run_dir}"
        )


@contextlib.contextmanager
def findable(run: RunDirectory, run_name: str) -> Iterator[None]:
    """Keep a file in the run's directory, inside the block, that says how to reach the run."""
    address = ray.get_runtime_context().gcs_address
    Whereabouts(run_name, address, os.environ.get(AUTH_MODE)).write(run.path)
    try:
        yield
    finally:
        (run.path / NOTE).unlink(missing_ok=True)


def stop_run(run: Whereabouts, timeout_s: float) -> Ended:
    """Ask a run to end after the update in progress, with a checkpoint, and wait until it has.

    The run has ended when that file is gone, which is visible on every machine that shares the directory.

    Raises:
        ConfigError: if no such run is active.
        AskFailed: if it cannot be reached, or does not end in time; in that case it still ends later.
    """
    folder = ask_run(run, remote(ControllerActor.stop), ANSWER_TIMEOUT_S)
    deadline = time.monotonic() + timeout_s
    while (folder / NOTE).exists():
        if time.monotonic() > deadline:
            raise AskFailed(
                f"{folder}: still running after {timeout_s:g} s; it ends after the update in progress"
            )
        time.sleep(POLL_S)
    return _how_it_ended(RunDirectory(folder))


def _how_it_ended(run: RunDirectory) -> Ended:
    newest = run.newest_checkpoint()
    return Ended(
        run.path,
        updates=sum(1 for _ in run.read_lines("metrics")),
        checkpoint_version=None if newest is None else int(newest.name.removeprefix("v")),
        finished=(run.path / "summary.json").exists() or run.final.exists(),
    )
