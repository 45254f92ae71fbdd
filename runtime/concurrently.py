"""Run many calls with bounded concurrency."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_END = object()


async def concurrently(
    items: Iterable[T] | AsyncIterable[T],
    call: Callable[[T], Awaitable[R]],
    limit: int,
    weight: Callable[[T], int] = lambda item: 1,
) -> AsyncGenerator[R, None]:
    """Yield `await call(item)` for every item, in the order of completion.

    The total weight of items in progress and of results not yet yielded is at most `limit`, which bounds
    memory. The first call that fails cancels the others, and its error is raised. If the caller may stop
    iterating early, it must close the iterator (`contextlib.aclosing`), which cancels the running calls.
    """
    results: asyncio.Queue[Any] = asyncio.Queue()
    room = asyncio.Semaphore(limit)

    async def one(item: T) -> None:
        await results.put((weight(item), await call(item)))

    async def feed() -> None:
        try:
            async with asyncio.TaskGroup() as calls:
                async for item in _each(items):
                    for _ in range(weight(item)):
                        await room.acquire()
                    calls.create_task(one(item))
        finally:
            results.put_nowait(_END)

    feeder = asyncio.create_task(feed())
    try:
        while (done := await results.get()) is not _END:
            released, result = done
            for _ in range(released):
                room.release()
            yield result
        await feeder
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        feeder.cancel()
        await asyncio.gather(feeder, return_exceptions=True)


async def _each(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
