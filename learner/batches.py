"""The micro-batches of an update. A thread builds each one while the model computes the one before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from learner.inputs import MicroBatch

LayOut = Callable[[], MicroBatch]


class Batches:
    """Iterable of (micro-batch, whether it counts) pairs. May be iterated more than once.

    A micro-batch that does not count only synchronises with ranks that have more passes.

    Args:
        lay_out: functions that each build a micro-batch that counts; called in order, in one thread.
        filler: builds the micro-batch that does not count.
        fillers: how often that micro-batch is repeated at the end.
        timeout_s: deadline for waiting for one micro-batch.
    """

    def __init__(self, lay_out: Sequence[LayOut], filler: LayOut, fillers: int, timeout_s: float) -> None:
        self._lay_out = [*lay_out, *([filler] if fillers else [])]
        self._counting = len(lay_out)
        self._fillers = fillers
        self._timeout_s = timeout_s
        self._thread = ThreadPoolExecutor(1, "learner-inputs")
        self._made: list[Future[MicroBatch]] = []
        self.waited_s = 0.0

    def __enter__(self) -> Self:
        self._made = [self._thread.submit(job) for job in self._lay_out]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def __len__(self) -> int:
        return self._counting + self._fillers

    def __iter__(self) -> Iterator[tuple[MicroBatch, bool]]:
        for future in self._made[: self._counting]:
            yield self._wait(future), True
        for _ in range(self._fillers):
            yield self._wait(self._made[-1]), False

    def _wait(self, future: Future[MicroBatch]) -> MicroBatch:
        started_s = time.monotonic()
        batch = future.result(timeout=self._timeout_s)
        self.waited_s += time.monotonic() - started_s
        return batch
