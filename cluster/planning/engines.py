"""Simulated rollout engines, which wait for the duration of a request in virtual time.

`TimedEngine` takes a given time per video. `TokenEngine` decodes token by token: all sequences advance
together, a step takes longer with more sequences, and prompts and interrupted sequences are prefilled between
steps. So it models the effects of long answers, length limits and pauses.
"""

import asyncio
import contextlib
import heapq
import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rollout.drain_gate import DrainGate

SHORTEST_TOKENS = 20


class Lost(Exception):
    """The engine died while it processed a request."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Distribution of answer lengths: log-normal with this mean and sigma. A given share of answers does not
    end by itself and has the maximum length instead."""

    mean_tokens: float = 300.0
    spread: float = 0.4
    at_cap: float = 0.0

    def draw(self, dice: random.Random, cap: int) -> int:
        if dice.random() < self.at_cap:
            return cap
        length = dice.lognormvariate(math.log(self.mean_tokens) - self.spread**2 / 2, self.spread)
        return min(cap, max(SHORTEST_TOKENS, int(length)))


@dataclass(frozen=True, slots=True)
class EngineSpeed:
    """Durations of an engine's operations in seconds: a decoding step, the addition per sequence in it, the
    prefill of a group's prompt and frames, and the repeated prefill of one interrupted sequence."""

    step_s: float
    step_s_per_sequence: float
    prefill_s: float
    resume_s: float


class TimedEngine:
    """Takes `mean_s` per video on average, with a log-normal spread, independent of its other requests."""

    def __init__(self, dice: random.Random, mean_s: float, spread: float) -> None:
        self.gate, self.died = DrainGate(), asyncio.Event()
        self.served_s = 0.0
        self._dice, self._mean_s, self._spread = dice, mean_s, spread
        self._stood_s = 0.0
        self._paused_at: float | None = None

    async def serve(self, lengths: Sequence[Sequence[int]]) -> None:
        # Keep the mean of the log-normal distribution at `mean_s` for any spread.
        seconds = self._mean_s * self._dice.lognormvariate(-(self._spread**2) / 2, self._spread)
        left_s = seconds
        while left_s > 0:
            stood_s = self._stood_s
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.died.wait(), left_s)
            if self.died.is_set():
                raise Lost
            left_s = self._stood_s - stood_s
        self.served_s += seconds

    def pause(self) -> None:
        self._paused_at = asyncio.get_running_loop().time()

    def resume(self) -> None:
        assert self._paused_at is not None
        self._stood_s += asyncio.get_running_loop().time() - self._paused_at


class TokenEngine:
    """Decodes all its sequences synchronously. `_done` is the number of steps since the start; a sequence
    ends when `_done` reaches the number stored for it."""

    def __init__(self, speed: EngineSpeed) -> None:
        self.gate, self.died = DrainGate(), asyncio.Event()
        self.served_s = 0.0
        self._speed = speed
        self._ends: list[tuple[float, int, asyncio.Event]] = []
        self._numbers = itertools.count()
        self._done = 0.0
        self._since_s = 0.0
        self._prefill_s = 0.0
        """Seconds of prefill that must run before the next steps."""
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None

    async def serve(self, lengths: Sequence[Sequence[int]]) -> None:
        self._advance()
        events = []
        for group in lengths:
            self._prefill_s += self._speed.prefill_s
            for length in group:
                events.append(asyncio.Event())
                heapq.heappush(self._ends, (self._done + length, next(self._numbers), events[-1]))
        self._set_timer()
        answered = asyncio.gather(*(event.wait() for event in events))
        died = asyncio.ensure_future(self.died.wait())
        try:
            either: list[asyncio.Future[Any]] = [answered, died]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not answered.done():
                raise Lost
        finally:
            answered.cancel()
            died.cancel()
            await asyncio.gather(answered, died, return_exceptions=True)

    def pause(self) -> None:
        """Pause for new weights."""
        self._advance()
        self._paused = True
        self._set_timer()

    def resume(self) -> None:
        """Resume. Unfinished sequences are prefilled again under the new weights."""
        self._advance()
        self._paused = False
        self._prefill_s += len(self._ends) * self._speed.resume_s
        self._set_timer()

    @property
    def _step_s(self) -> float:
        return self._speed.step_s + len(self._ends) * self._speed.step_s_per_sequence

    def _advance(self) -> None:
        """Advance the state to the current time. No sequence ends in between, because a timer fires at each
        end."""
        now_s = asyncio.get_running_loop().time()
        elapsed_s, self._since_s = now_s - self._since_s, now_s
        if self._paused or not self._ends:
            return
        self.served_s += elapsed_s
        prefilling_s = min(elapsed_s, self._prefill_s)
        self._prefill_s -= prefilling_s
        self._done += (elapsed_s - prefilling_s) / self._step_s

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ends and not self._paused and not self.died.is_set():
            left = max(0.0, self._ends[0][0] - self._done)
            seconds = self._prefill_s + left * self._step_s
            self._timer = asyncio.get_running_loop().call_later(seconds, self._end_shortest)

    def _end_shortest(self) -> None:
        self._advance()
        end = self._ends[0][0]
        self._done = max(self._done, end)
        while self._ends and self._ends[0][0] <= self._done:
            heapq.heappop(self._ends)[2].set()
        self._set_timer()
