"""The forward passes of an update, laid out by a thread while the model computes the ones before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from learner.inputs import MicroBatch

LayOut = Callable[[], MicroBatch]


class Batches:
    """Pairs of a micro-batch and whether it counts; may be gone through more than once.

    A pass that does not count keeps step with ranks that have more.

    Args:
        lay_out: makes each micro-batch that counts; called in order, in one thread.
        filler: makes the micro-batch that does not.
        fillers: how many times that is gone through at the end.
        timeout_s: deadline of waiting for one micro-batch.
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
