"""Await helpers: every wait has a deadline, and abandoned tasks are cancelled."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


class DeadlineError(TimeoutError):
    """A call exceeded its deadline. The message names the actor, the call and the seconds."""


async def within(awaitable: Awaitable[T], seconds: float, what: str) -> T:
    """Await `awaitable` for at most `seconds`.

    Args:
        awaitable: a coroutine, a future or a Ray object reference.
        seconds: the deadline, counted from now.
        what: the actor and the call, for the error message, such as "rollout-3.sample".

    Raises:
        DeadlineError: if there is no result in time. A remote call keeps running until its actor is killed.
    """
    try:
        async with asyncio.timeout(seconds) as deadline:
            return await awaitable
    except TimeoutError as error:
        if not deadline.expired():
            raise  # raised by the awaited call itself
        raise DeadlineError(f"{what}: no answer within {seconds:g} s") from error


async def together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all calls concurrently; returns their results.

    If one fails, the others are cancelled; its error is raised after they have ended.
    """
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def one_ahead(calls: Iterable[Coroutine[Any, Any, T]]) -> AsyncIterator[T]:
    """Yield the results of `calls` in order. While the caller uses a result, the next call is in progress."""
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
