"""LoRA adapters that an engine serves on top of its base model: one per policy version. Importable without
vllm.

A request keeps the adapter of the version at which it began, so sampling need not pause for a new adapter.
An old adapter is removed once no request uses it.
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
"""Ranks that vLLM can reserve memory for. An adapter's rank is rounded up to one of them."""

FAMILIES = frozenset({"internvl", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "glm4v"})
"""Values of `model_type` for which vLLM serves adapters of the language model. tests/families compares the
log-probs."""


@dataclass(frozen=True, slots=True)
class AdapterServing:
    """Settings for serving adapters: their rank, their alpha and how many an engine holds at once."""

    rank: int
    alpha: float
    slots: int

    @property
    def reserved_rank(self) -> int:
        """`rank`, rounded up to a rank that vLLM can reserve memory for."""
        return next(rank for rank in RANKS if rank >= self.rank)


@dataclass(eq=False)
class Adapter:
    """A policy version, vLLM's handle of its adapter (None: the base model) and the number of its
    requests."""

    version: int
    lora: LoRARequest | None
    running: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.idle.set()


class AdapterSlots:
    """The adapters that an engine holds, oldest first. Use from one event loop only."""

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
        """Yield the current adapter. It is not removed before the block ends."""
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
        """Adapters that can be removed: no request uses them, and none is the current adapter."""
        return [a for a in self._held if not a.running and a is not self._current]

    async def one_idle(self) -> Adapter:
        """Wait for an adapter without running requests, and return the oldest such one.

        The caller must keep new requests from starting meanwhile.
        """
        waits = [asyncio.ensure_future(adapter.idle.wait()) for adapter in self._held]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return next(adapter for adapter in self._held if not adapter.running)

    def drop(self, adapter: Adapter) -> None:
        """Remove an adapter from the list, after vLLM has removed it."""
        self._held.remove(adapter)

    def adopt(self, adapter: Adapter) -> None:
        """Make `adapter` the current one: later requests run under it."""
        self._held.append(adapter)
        self._current = adapter
