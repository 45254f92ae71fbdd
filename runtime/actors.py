"""Typed calls of actors, the causes of their errors, and how an actor's end shows."""

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
"""What Ray raises for a call of a dead actor: a RayActorError, or the reason itself where a lack of memory or
the loss of its machine killed it."""

POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class RemoteCall(Generic[A_co, T_co]):
    """A call of a method of actors of class `A_co`, which returns `T_co`; `remote` makes it."""

    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    async def on(self, actor: Any, name: str, timeout_s: float) -> T_co:
        """Call one actor; `name` is for the message of the DeadlineError."""
        answer = getattr(actor, self.method).remote(*self.args, **self.kwargs)
        return cast(T_co, await within(answer, timeout_s, f"{name}.{self.method}"))


@overload
def remote(
    method: Callable[Concatenate[A, P], Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
) -> RemoteCall[A, T]: ...
@overload
def remote(method: Callable[Concatenate[A, P], T], *args: P.args, **kwargs: P.kwargs) -> RemoteCall[A, T]: ...
def remote(method: Any, *args: Any, **kwargs: Any) -> RemoteCall[Any, Any]:
    """A call of `method`, a function of the actor's class: `remote(RolloutWorker.load_weights, 3, buckets)`.

    A type checker compares the arguments with the method's own.
    """
    return RemoteCall(method.__name__, args, kwargs)


def value_of(reference: "ray.ObjectRef[T]") -> T:
    """The reference itself, typed as its value: a remote method gets the value of a reference it is given."""
    return cast(T, reference)


def root_cause(error: BaseException) -> BaseException:
    """The error behind those that Ray and task groups wrap around it."""
    while True:
        if isinstance(error, ray.exceptions.RayTaskError):
            error = error.cause
        elif isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        else:
            return error


def explained(error: BaseException) -> str:
    """Type and message of an error's root cause."""
    cause = root_cause(error)
    return f"{type(cause).__name__}: {cause}"


def fault_report(error: BaseException, remedy: str) -> str:
    """What to record of an actor's fault: one line with what failed and what is done about it, then all else
    that the error and its cause say."""
    first, *rest = str(error).strip().splitlines() or [type(error).__name__]
    cause = str(error.__cause__ or "").strip()
    return "\n".join([f"{first}; {remedy}", *rest, *(cause.splitlines() if "\n" in cause else [])])


def processes_left(pids: list[int], timeout_s: float) -> list[int]:
    """Wait until processes of this machine have ended; returns those that have not after `timeout_s`.

    Ray reports an actor as dead as soon as it is killed; its memory is free when its process has ended.
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
    return stat.rpartition(")")[2].split()[0] != "Z"  # a zombie holds no memory
