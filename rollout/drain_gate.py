"""Lets work in, or stops it at the door until all that is inside has left."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class DrainGate:
    """Keeps sampling and loading weights apart. One event loop owns it.

    async with gate.entered():   # any number at once; waits while the gate is drained
        ...
    async with gate.drained():   # alone: waits for those inside to leave, holds newcomers back
        ...
    async with gate.closed():    # holds newcomers back; those inside stay there
        ...
    """

    def __init__(self) -> None:
        self._open, self._empty = asyncio.Event(), asyncio.Event()
        self._open.set()
        self._empty.set()
        self._inside = 0
        self._busy_s = 0.0
        self._busy_since = 0.0

    @property
    def busy_s(self) -> float:
        """Seconds in which somebody was inside."""
        running = time.perf_counter() - self._busy_since if self._inside else 0.0
        return self._busy_s + running

    async def opened(self) -> None:
        """Wait until nobody holds newcomers back."""
        while not self._open.is_set():
            await self._open.wait()

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[None]:
        await self.opened()
        if self._inside == 0:
            self._busy_since = time.perf_counter()
        self._inside += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if self._inside == 0:
                self._busy_s += time.perf_counter() - self._busy_since
                self._empty.set()

    @asynccontextmanager
    async def closed(self) -> AsyncIterator[None]:
        await self.opened()
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    @asynccontextmanager
    async def drained(self) -> AsyncIterator[None]:
        async with self.closed():
            await self._empty.wait()
            yield
