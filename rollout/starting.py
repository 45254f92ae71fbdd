"""Waits until enough workers have started, and limits how often workers are replaced."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TypeVar

from data.errors import permanent_cause

T = TypeVar("T")


async def enough_of(launches: Sequence[asyncio.Task[T]], needed: int) -> None:
    """Wait until `needed` of `launches` have succeeded.

    Raises the error of a failed launch if a retry would fail too, or if too few launches are left.
    """
    while True:
        ended = [launch for launch in launches if launch.done()]
        errors = [error for launch in ended if (error := launch.exception())]
        for error in errors:
            if permanent_cause(error):
                raise error
        if len(errors) > len(launches) - needed:
            raise errors[0]
        if len(ended) - len(errors) >= needed:
            return
        await asyncio.wait(set(launches).difference(ended), return_when=asyncio.FIRST_COMPLETED)


class RestartRate:
    """Counts restarts within the last `window_s` seconds."""

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit = limit
        self._window_s = window_s
        self._times: deque[float] = deque()

    def exceeded(self, now_s: float) -> bool:
        """Count a restart at `now_s`, and return True if there are now too many. `now_s` must not
        decrease."""
        self._times.append(now_s)
        while self._times[0] <= now_s - self._window_s:
            self._times.popleft()
        return len(self._times) > self._limit
