"""Selects the worker for each request. Pure asyncio, without Ray or vLLM."""

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

W = TypeVar("W", bound=Hashable)


class Router(Generic[W]):
    """Serves requests in order of arrival, each by the worker with the lowest outstanding cost. Use from one
    event loop only.

        worker = await router.acquire(cost)
        ...
        router.release(worker, cost)

    A worker takes requests up to a total cost of `capacity`; an idle worker takes one request of any cost.
    Other requests wait in the router, and the oldest goes to the first worker with room.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._outstanding: dict[W, int] = {}
        self._waiting: deque[tuple[int, asyncio.Future[W]]] = deque()

    def __len__(self) -> int:
        """Number of workers that take requests."""
        return len(self._outstanding)

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a worker with room."""
        return sum(not future.done() for _, future in self._waiting)

    def outstanding(self, worker: W) -> int:
        """Return the total cost of a worker's unfinished requests; 0 for a worker that takes no requests."""
        return self._outstanding.get(worker, 0)

    def join(self, worker: W) -> None:
        """Add a worker: requests are sent to it."""
        self._outstanding.setdefault(worker, 0)
        self._hand_out()

    def leave(self, worker: W) -> None:
        """Remove a worker: it gets no more requests, and its unfinished ones are not counted."""
        self._outstanding.pop(worker, None)

    async def acquire(self, cost: int) -> W:
        """Wait for a worker with room, and return it. The caller must set a deadline."""
        future: asyncio.Future[W] = asyncio.get_running_loop().create_future()
        self._waiting.append((cost, future))
        self._hand_out()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # a worker was assigned but is not used
                self.release(future.result(), cost)
            raise

    def fail(self, error: Exception) -> None:
        """Raise `error` in every waiting call."""
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()

    def release(self, worker: W, cost: int) -> None:
        """Subtract a cost that `acquire` added. No-op for a worker that has left."""
        if worker in self._outstanding:
            self._outstanding[worker] -= cost
            self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and self._outstanding:
            cost, future = self._waiting[0]
            if future.done():  # cancelled
                self._waiting.popleft()
                continue
            worker = min(self._outstanding, key=lambda w: self._outstanding[w])
            load = self._outstanding[worker]
            if load and load + cost > self._capacity:
                return
            self._waiting.popleft()
            self._outstanding[worker] = load + cost
            future.set_result(worker)
