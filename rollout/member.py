"""The controller's record of one rollout worker, and calls to that worker."""

from dataclasses import dataclass
from typing import Any, TypeVar

import ray

from rollout.errors import EngineDead
from rollout.placement import Placement
from rollout.worker import RolloutWorker, WorkerInfo
from runtime.actors import ACTOR_IS_GONE, RemoteCall
from runtime.calls import DeadlineError

T = TypeVar("T")


@dataclass(eq=False)
class Member:
    """The controller's record of a worker. The worker gets no requests until it is `healthy`."""

    worker_id: str
    actor: Any
    placement: Placement
    healthy: bool = False
    leaving: bool = False
    running: int = 0
    info: WorkerInfo | None = None


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker as `launch.py status` shows it. `state` is starting, healthy or leaving."""

    worker_id: str
    state: str
    node: str
    pid: int | None
    outstanding_tokens: int


class Lost(Exception):
    """A worker died or counts as hung. It must be replaced."""


async def ask(member: Member, call: RemoteCall[RolloutWorker, T], timeout_s: float) -> T:
    """Make a call to a worker. Raises Lost if the worker must be replaced; other errors are the call's
    own."""
    what = f"{member.worker_id}.{call.method}"
    try:
        return await call.on(member.actor, member.worker_id, timeout_s)
    except DeadlineError as error:
        raise Lost(str(error)) from error
    except ACTOR_IS_GONE as error:
        raise Lost(f"{what}: the worker died: {_first_line(error)}") from error
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, EngineDead):
            raise Lost(f"{what}: {error.cause}") from error
        raise


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
