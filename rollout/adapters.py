"""Adapters that an engine serves beside its base model, one for each policy version. Importable without vllm.

A request runs under the adapter of the version at which it began, so a new adapter needs no pause. An older
one is removed once no request uses it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM reserves memory for: an adapter takes the next larger one."""

FAMILIES = frozenset({"internvl", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "glm4v"})
"""Values of `model_type` whose language model's adapters vLLM serves; tests/families compares log-probs."""


@dataclass(frozen=True, slots=True)
class AdapterServing:
    """How an engine serves adapters: their rank and alpha, and how many it holds at once."""

    rank: int
    alpha: float
    slots: int

    @property
    def reserved_rank(self) -> int:
        """The rank that vLLM reserves memory for."""
        return next(rank for rank in RANKS if rank >= self.rank)


@dataclass(eq=False)
class Adapter:
    """What requests run under: a policy version, and how vLLM knows its adapter (None: the base model)."""

    version: int
    lora: LoRARequest | None
    running: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.idle.set()


class AdapterSlots:
    """The adapters that an engine holds, oldest first. One event loop owns it."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._held: list[Adapter] = []
        self._current = Adapter(version=0, lora=None)

    @property
    def full(self) -> bool:
        return len(self._held) >= self._slots

    @property
    def held(self) -> list[int]:
        """The versions of the adapters held."""
        return [adapter.version for adapter in self._held]

    @contextmanager
    def used(self) -> Iterator[Adapter]:
        """The current adapter, which stays until the block ends."""
        adapter = self._current
        adapter.running += 1
        adapter.idle.clear()
        try:
            yield adapter
        finally:
            adapter.running -= 1
            if not adapter.running:
                adapter.idle.set()

    def unused(self) -> list[Adapter]:
        """Adapters that no request uses or will use."""
        return [a for a in self._held if not a.running and a is not self._current]

    async def one_idle(self) -> Adapter:
        """The oldest adapter without a running request, once there is one. No new request may begin."""
        waits = [asyncio.ensure_future(adapter.idle.wait()) for adapter in self._held]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return next(adapter for adapter in self._held if not adapter.running)

    def drop(self, adapter: Adapter) -> None:
        """Forget an adapter that vLLM has removed."""
        self._held.remove(adapter)

    def adopt(self, adapter: Adapter) -> None:
        """Have requests that begin from here on run under `adapter`."""
        self._held.append(adapter)
        self._current = adapter
