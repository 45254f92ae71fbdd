"""One rollout worker as the fleet sees it, and calling it."""

from dataclasses import dataclass
from typing import Any

import ray

from rollout.errors import EngineDead
from rollout.placement import Placement
from rollout.worker import WorkerInfo
from runtime.actor_death import ACTOR_IS_GONE
from runtime.calls import DeadlineError, within


@dataclass(eq=False)
class Member:
    """A worker of the set. It takes no work until `healthy`."""

    worker_id: str
    actor: Any
    placement: Placement
    healthy: bool = False
    leaving: bool = False
    running: int = 0
    info: WorkerInfo | None = None


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker from outside. `state` is starting, healthy or leaving."""

    worker_id: str
    state: str
    node: str
    pid: int | None
    outstanding_tokens: int


class Lost(Exception):
    """A worker died, or has to be given up as hung."""


async def ask(member: Member, method: str, *args: Any, timeout_s: float) -> Any:
    """Call an actor's method. Raises Lost if the worker is of no more use, else the method's error."""
    what = f"{member.worker_id}.{method}"
    try:
        return await within(getattr(member.actor, method).remote(*args), timeout_s, what)
    except DeadlineError as error:
        raise Lost(str(error)) from error
    except ACTOR_IS_GONE as error:
        raise Lost(f"{what}: the worker died: {_first_line(error)}") from error
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, EngineDead):
            raise Lost(f"{what}: {error.cause}") from error
        raise


def cause_of(error: BaseException) -> str:
    """The error that a method raised, without what Ray wraps around it."""
    cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
    return f"{type(cause).__name__}: {cause}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
