"""The steps in their order, each with its deadline on one GPU. Pure."""

from __future__ import annotations

from benchmarks.gpu_smoke.runner import Step


def _step(name: str, work: str, deadline_s: float, fresh: bool = False) -> Step:
    return Step(name, f"benchmarks.gpu_smoke.{work}", deadline_s, fresh)


LEARNER = [
    _step("software", "software:versions", 60),
    _step("triton", "software:triton", 60),
    _step("buffers", "buffers:buffers", 90),
    _step("attention", "attention:attention", 90),
    _step("packing", "packing:packing", 90),
    _step("updates", "updates:updates", 150),
    _step("faults", "updates:faults", 60),
    # Alone in its process: what others leave in the allocator would count.
    _step("memory", "memory:memory", 120, fresh=True),
]
ENGINE = [
    _step("engine", "engine:internvl", 150, fresh=True),
    _step("engine-qwen", "engine:qwen3_vl", 150, fresh=True),
]
FIGURES = [_step("speed", "speed:speed", 240, fresh=True)]
ALL = [*LEARNER, *ENGINE, *FIGURES]
