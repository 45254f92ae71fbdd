"""Waiting: never without an end, and never for what nobody wants any more."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


class DeadlineError(TimeoutError):
    """A call to somewhere else took too long; says which call, of whom, and after how many seconds."""


async def within(awaitable: Awaitable[T], seconds: float, what: str) -> T:
    """The result of `awaitable`, if it comes within `seconds`.

    Args:
        awaitable: a coroutine, a future or a Ray object reference.
        seconds: the deadline, from now.
        what: the actor and the call, for the message: "rollout-3.sample".

    Raises:
        DeadlineError: if it does not come in time. A remote call goes on where it runs: whoever waits for a
            hung actor has to end the actor too.
    """
    try:
        async with asyncio.timeout(seconds) as deadline:
            return await awaitable
    except TimeoutError as error:
        if not deadline.expired():
            raise  # the awaited call's own
        raise DeadlineError(f"{what}: no answer within {seconds:g} s") from error


async def together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all calls, made at once.

    If one fails, the others are called off, and have ended when its error is raised.
    """
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def one_ahead(calls: Iterable[Coroutine[Any, Any, T]]) -> AsyncIterator[T]:
    """The results of `calls` in order; while one is made use of, the next call is already under way."""
    coming: asyncio.Task[T] | None = None
    try:
        for call in calls:
            ready, coming = coming, asyncio.create_task(call)
            if ready is not None:
                yield await ready
        if coming is not None:
            yield await coming
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
