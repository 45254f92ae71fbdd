"""The named Ray actor of the controller, through which other commands reach a run, and its client."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from cluster.config import RunConfig
from cluster.controller import Controller, RunStatus
from cluster.preflight import read_job
from monitoring.run_dir import RunDirectory
from runtime.actors import explained, remote
from runtime.calls import DeadlineError
from runtime.errors import CommandFailed, ConfigError

EVENT_POLL_S = 0.5
ANSWER_TIMEOUT_S = 60.0


class RunFailed(CommandFailed):
    """A run ended with an error. The message gives the error and how to resume."""


class ControllerActor:
    """A thin wrapper: reads the job on its own node, and forwards calls to the controller."""

    def __init__(self, config: RunConfig, resume: bool) -> None:
        logging.basicConfig(level=logging.WARNING)
        assert config.run_dir is not None
        self._run_dir = config.run_dir
        self._controller = Controller(read_job(config), RunDirectory(config.run_dir), resume)

    async def run(self) -> dict[str, Any]:
        return await self._controller.run()

    async def events(self, after: int) -> tuple[int, list[dict[str, Any]]]:
        return self._controller.journal.events(after)

    async def status(self) -> RunStatus:
        return self._controller.status()

    async def scale(self, rollout_workers: int) -> None:
        """Start or end rollout workers until there are `rollout_workers`."""
        await self._controller.scale(rollout_workers)

    async def stop(self) -> Path:
        """End the run after the update in progress, with a checkpoint. Returns the run directory."""
        self._controller.stop()
        return self._run_dir


def actor_name(run_name: str) -> str:
    return f"vqathinker-{run_name}"


def require_free_name(run_name: str) -> None:
    """Raise ConfigError if a run of that name is active in this cluster."""
    if actor_name(run_name) in ray.util.list_named_actors():
        raise ConfigError(_name_taken(run_name))


async def follow_run(
    config: RunConfig, resume: bool, on_event: Callable[[dict[str, Any]], None], stop: asyncio.Event
) -> dict[str, Any]:
    """Start the controller, pass its events to `on_event` as they arrive, and return its summary.

    When `stop` is set, the run ends after the update in progress, with a checkpoint. Raises RunFailed.
    """
    actor: Any = ray.remote(ControllerActor)
    named = actor.options(name=actor_name(config.name), num_cpus=0, max_concurrency=16)
    try:
        controller = named.remote(config, resume)
    except ValueError:  # raised by Ray if two runs start at once
        raise RunFailed(_name_taken(config.name)) from None
    running = asyncio.ensure_future(_await_ref(controller.run.remote()))
    seen, asked_to_stop = 0, False
    try:
        while True:
            done, _ = await asyncio.wait([running], timeout=EVENT_POLL_S)
            if stop.is_set() and not asked_to_stop:
                asked_to_stop = True
                await remote(ControllerActor.stop).on(controller, "controller", ANSWER_TIMEOUT_S)
            if not running.done() or running.exception() is None:
                more = remote(ControllerActor.events, seen)
                seen, events = await more.on(controller, "controller", ANSWER_TIMEOUT_S)
                for event in events:
                    on_event(event)
            if done:
                return running.result()
    except (ray.exceptions.RayError, DeadlineError) as error:
        raise RunFailed(
            f"{explained(error)}\n"
            f"The run's folder is {config.run_dir}; if it holds a checkpoint, "
            f"`launch.py train --resume --run_dir={config.run_dir}` resumes from it"
        ) from error
    finally:
        running.cancel()
        ray.kill(controller)


def _name_taken(run_name: str) -> str:
    return (
        f"a run named '{run_name}' is already active in this cluster: give this one another --name, or end "
        f"that one with `launch.py stop {run_name}`"
    )


async def _await_ref(ref: Any) -> Any:
    return await ref
