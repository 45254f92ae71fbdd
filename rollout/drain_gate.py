"""A gate that admits requests, or blocks new ones until those in flight have drained."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class DrainGate:
    """Prevents sampling while weights are loaded. Use from one event loop only.

    async with gate.entered():   # shared by any number of requests; waits while the gate is closed
        ...
    async with gate.drained():   # exclusive: blocks new requests and waits for those in flight
        ...
    async with gate.closed():    # blocks new requests; those in flight continue
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
        """Seconds so far during which at least one request was in flight."""
        running = time.perf_counter() - self._busy_since if self._inside else 0.0
        return self._busy_s + running

    async def opened(self) -> None:
        """Wait until the gate admits requests."""
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
