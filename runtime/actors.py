"""Call actors with type checking, find the causes of their errors, and detect that an actor has ended."""

import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

import ray

from runtime.calls import within

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)
T_co = TypeVar("T_co", covariant=True)

ACTOR_IS_GONE = (
    ray.exceptions.RayActorError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.LocalRayletDiedError,
)
"""The errors that Ray raises for a call of a dead actor: RayActorError, or a more specific error if the actor
ran out of memory or its node died."""

POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class RemoteCall(Generic[A_co, T_co]):
    """A method call on actors of class `A_co` that returns `T_co`. Create it with `remote`."""

    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    async def on(self, actor: Any, name: str, timeout_s: float) -> T_co:
        """Make the call on one actor. Raises DeadlineError, whose message contains `name`."""
        answer = getattr(actor, self.method).remote(*self.args, **self.kwargs)
        return cast(T_co, await within(answer, timeout_s, f"{name}.{self.method}"))


@overload
def remote(
    method: Callable[Concatenate[A, P], Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
) -> RemoteCall[A, T]: ...
@overload
def remote(method: Callable[Concatenate[A, P], T], *args: P.args, **kwargs: P.kwargs) -> RemoteCall[A, T]: ...
def remote(method: Any, *args: Any, **kwargs: Any) -> RemoteCall[Any, Any]:
    """Create a call of a method of the actor's class: `remote(RolloutWorker.load_weights, 3, buckets)`.

    Type checkers compare the arguments with the signature of the method.
    """
    return RemoteCall(method.__name__, args, kwargs)


def value_of(reference: "ray.ObjectRef[T]") -> T:
    """Return the reference unchanged, but typed as its value: Ray passes the value to the remote method."""
    return cast(T, reference)


def root_cause(error: BaseException) -> BaseException:
    """The original error inside the errors in which Ray and task groups wrap it."""
    while True:
        if isinstance(error, ray.exceptions.RayTaskError):
            error = error.cause
        elif isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        else:
            return error


def explained(error: BaseException) -> str:
    """The type and message of an error's root cause, as text."""
    cause = root_cause(error)
    return f"{type(cause).__name__}: {cause}"


def fault_report(error: BaseException, remedy: str) -> str:
    """Build the report of an actor's failure. Its first line has the error and the remedy; the rest of the
    error's message follows, and its cause if that has several lines."""
    first, *rest = str(error).strip().splitlines() or [type(error).__name__]
    cause = str(error.__cause__ or "").strip()
    return "\n".join([f"{first}; {remedy}", *rest, *(cause.splitlines() if "\n" in cause else [])])


def processes_left(pids: list[int], timeout_s: float) -> list[int]:
    """Wait until processes of this machine have ended; returns those that still run after `timeout_s`.

    Ray reports an actor as dead as soon as it is killed, but its memory is freed only when its process ends.
    """
    deadline_s = time.monotonic() + timeout_s
    while (left := [pid for pid in pids if _runs(pid)]) and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
    return left


def _runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"  # a zombie process uses no memory
