"""Typed calls of actors: what is called, what an error says, and what a type checker refuses."""

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import ray

from learner.rank import LearnerRank
from rollout.worker import RolloutWorker
from runtime.actors import RemoteCall, explained, fault_report, remote
from runtime.calls import DeadlineError


class Counter:
    """An actor's class; `Handle` stands in for a handle of it."""

    def add(self, first: int, *more: int) -> int:
        return first + sum(more)


class Handle:
    class add:
        @staticmethod
        async def remote(*numbers: int) -> int:
            if not sum(numbers):
                await asyncio.Event().wait()
            return Counter().add(*numbers)


def test_a_call_reaches_the_method_with_its_arguments() -> None:
    assert asyncio.run(remote(Counter.add, 1, 2, 3).on(Handle(), "counter-0", 5)) == 6


def test_a_late_answer_names_actor_call_and_seconds() -> None:
    with pytest.raises(DeadlineError, match=r"counter-0\.add: no answer within 0.01 s"):
        asyncio.run(remote(Counter.add, 0).on(Handle(), "counter-0", 0.01))


def test_an_error_is_explained_by_its_root_cause() -> None:
    wrapped: Any = ray.exceptions.RayTaskError("add", "Traceback: ...", OverflowError("too many"))
    assert explained(ExceptionGroup("several", [wrapped])) == "OverflowError: too many"


def test_a_fault_report_starts_with_one_whole_line() -> None:
    lost = RuntimeError("rollout-0.sample: the worker died: The actor died unexpectedly")
    lost.__cause__ = ValueError("The actor died unexpectedly\n\tclass_name: RolloutWorker\n")
    assert fault_report(lost, "it is replaced").splitlines() == [
        "rollout-0.sample: the worker died: The actor died unexpectedly; it is replaced",
        "The actor died unexpectedly",
        "\tclass_name: RolloutWorker",
    ]


if TYPE_CHECKING:
    # mypy reports an ignored error that does not occur: `make lint` fails if one of these passes.
    remote(RolloutWorker.load_wieghts, 1, [])  # type: ignore[attr-defined, call-overload]
    remote(RolloutWorker.load_weights, "1", [])  # type: ignore[call-overload]
    remote(RolloutWorker.load_weights, 1)  # type: ignore[call-overload]
    remote(LearnerRank.update, 1, [])  # type: ignore[call-overload]
    _version: RemoteCall[RolloutWorker, str] = remote(RolloutWorker.ping)  # type: ignore[call-overload]
    _rank: RemoteCall[RolloutWorker, None] = remote(LearnerRank.leave)  # type: ignore[call-overload]
