"""Which worker gets the next video. Pure asyncio: knows nothing of Ray or vLLM."""

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

W = TypeVar("W", bound=Hashable)


class Router(Generic[W]):
    """First come, first served, by the worker with the least outstanding. One event loop owns it.

        worker = await router.acquire(cost)
        ...
        router.release(worker, cost)

    A worker takes up to `capacity` at once, or one request of any cost when it is idle. What it cannot take
    waits in the router, so that the oldest request goes to whichever worker is free first.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._outstanding: dict[W, int] = {}
        self._waiting: deque[tuple[int, asyncio.Future[W]]] = deque()

    def __len__(self) -> int:
        """Workers that take requests."""
        return len(self._outstanding)

    @property
    def waiting(self) -> int:
        """Requests that no worker has room for."""
        return sum(not future.done() for _, future in self._waiting)

    def outstanding(self, worker: W) -> int:
        """Cost of a worker's unfinished requests; 0 for one that takes none."""
        return self._outstanding.get(worker, 0)

    def join(self, worker: W) -> None:
        """Send requests to a worker."""
        self._outstanding.setdefault(worker, 0)
        self._hand_out()

    def leave(self, worker: W) -> None:
        """Send a worker no more requests, and no longer count those it has."""
        self._outstanding.pop(worker, None)

    async def acquire(self, cost: int) -> W:
        """The worker to ask, once there is room. Waits without a deadline: the caller has one."""
        future: asyncio.Future[W] = asyncio.get_running_loop().create_future()
        self._waiting.append((cost, future))
        self._hand_out()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # assigned, and never used
                self.release(future.result(), cost)
            raise

    def fail(self, error: Exception) -> None:
        """Raise `error` in every waiting call."""
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()

    def release(self, worker: W, cost: int) -> None:
        """Give back what `acquire` took. No-op for a worker that has left."""
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
