"""Engines that serve a policy version as an adapter beside the base model."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import peft
import pytest

from data.records import Group
from data.tensor_bytes import Bucket
from rollout.adapters import RANKS, Adapter, AdapterServing, AdapterSlots
from rollout.config import RolloutConfig
from rollout.environment import engine_environment
from rollout.errors import WeightsRefused
from tests import adapters
from tests.adapters import adapted, bucket_of_adapter
from tests.conftest import moving_frames
from tests.families.sides import own_process
from tests.plain_torch import completion_logprobs, load

N_FRAMES, TOKENS = 3, 120
TOLERANCE = 1e-4


# The slots


def test_an_adapter_stays_while_a_request_uses_it() -> None:
    slots = AdapterSlots(2)
    first, second = Adapter(1, None), Adapter(2, None)
    with slots.used() as base:
        assert base.version == 0
        slots.adopt(first)
        with slots.used() as running:
            assert running is first
            slots.adopt(second)
            assert slots.full
            assert slots.unused() == []
        assert slots.unused() == [first]
    slots.drop(first)
    assert slots.held == [2]
    assert slots.unused() == [], "the current one is for requests to come"


def test_with_all_slots_taken_the_first_to_become_idle_leaves() -> None:
    async def wait() -> tuple[int, bool]:
        slots = AdapterSlots(2)
        slots.adopt(Adapter(1, None))
        with slots.used():
            slots.adopt(Adapter(2, None))
            with slots.used():
                waiting = asyncio.create_task(slots.one_idle())
                await asyncio.sleep(0)
                early = waiting.done()
            return (await waiting).version, early

    assert asyncio.run(wait()) == (2, False)


@pytest.mark.parametrize(("rank", "reserved"), [(1, 1), (4, 8), (16, 16), (17, 32), (512, 512)])
def test_vllm_reserves_the_next_larger_rank(rank: int, reserved: int) -> None:
    assert AdapterServing(rank, 1.0, 1).reserved_rank == reserved


@pytest.mark.engine
def test_ranks_are_those_of_vllm() -> None:
    from typing import get_args

    from vllm.config.lora import MaxLoRARanks

    assert get_args(MaxLoRARanks) == RANKS


# On an engine


def config(kind: Literal["in_process", "async"]) -> RolloutConfig:
    return RolloutConfig(engine=kind, max_completion_tokens=TOKENS, max_model_tokens=1024)


@contextmanager
def engine_process(kind: Literal["in_process", "async"] = "in_process") -> Iterator[ProcessPoolExecutor]:
    with own_process(engine_environment(config(kind), model_is_local=True)) as pool:
        yield pool


def ask(pool: ProcessPoolExecutor, function: Any, *args: Any) -> Any:
    return pool.submit(function, *args).result(timeout=180)


def logprobs(group: Group) -> list[np.ndarray]:
    return [np.array(c.logprobs) for c in group.completions]


def largest_difference(group: Group, model: Any, processor: Any) -> float:
    frames = moving_frames(N_FRAMES)
    expected = [
        completion_logprobs(model, processor, group, frames, c, 1.0).detach().numpy()
        for c in group.completions
    ]
    return max(float(np.abs(a - b).max()) for a, b in zip(logprobs(group), expected, strict=True))


@pytest.mark.parametrize("kind", ["in_process", pytest.param("async", marks=pytest.mark.slow)])
@pytest.mark.engine
@pytest.mark.timeout(400)
def test_every_request_ends_under_the_adapter_at_which_it_began(
    internvl: Path, kind: Literal["in_process", "async"], tmp_path: Path
) -> None:
    """Every token's log-prob is what Hugging Face computes with that version's adapter, also of requests that
    were running while others came; with two slots the third adapter waits for a request. Answers that share a
    prompt with those of older versions are those of an engine that never saw these. What is exported serves
    in peft and in vLLM, and what names no layer is refused."""
    frames = moving_frames(N_FRAMES)
    processor = load(internvl)[1]
    models = [load(internvl)[0], *(adapted(internvl, seed) for seed in (1, 2, 3))]
    buckets = [(version, bucket_of_adapter(models[version])) for version in (1, 2, 3)]
    exported_to = tmp_path / "adapter"
    adapters.export(models[1], exported_to)
    with engine_process(kind) as pool:
        ask(pool, adapters.engine_start, internvl, config(kind), N_FRAMES, 2)
        groups, held = ask(pool, adapters.engine_sample_across, frames, TOKENS, buckets)
        again = ask(pool, adapters.engine_sample, frames, (5, 6), 40)
        ask(pool, adapters.engine_stop)
        ask(pool, adapters.engine_start, internvl, config(kind), N_FRAMES, 2)
        assert ask(pool, adapters.engine_load, 3, buckets[2][1]) == [3]
        fresh = ask(pool, adapters.engine_sample, frames, (5, 6), 40)
        exported = ask(pool, adapters.engine_sample_exported, exported_to, frames, (5, 6), 40)
        for bucket, message in refused(internvl):
            with pytest.raises(WeightsRefused, match=message):
                ask(pool, adapters.engine_load, 4, bucket)
        ask(pool, adapters.engine_stop)
    assert held[:2] == [[1], [1, 2]]
    assert len(held[2]) == 2
    assert held[2][-1] == 3
    for version, group in enumerate(groups):
        assert {v for c in group.completions for v in c.versions} == {version}
        assert largest_difference(group, models[version], processor) < TOLERANCE
        others = [m for v, m in enumerate(models) if v != version]
        assert min(largest_difference(group, m, processor) for m in others) > 100 * TOLERANCE
    assert again.cached_prompt_tokens > fresh.cached_prompt_tokens, "its prompt was cached, of this version"
    assert [c.token_ids for c in again.completions] == [c.token_ids for c in fresh.completions]
    assert max(np.abs(a - b).max() for a, b in zip(logprobs(again), logprobs(fresh), strict=True)) < TOLERANCE
    loaded = peft.PeftModel.from_pretrained(load(internvl)[0], str(exported_to)).eval()
    assert largest_difference(exported, loaded, processor) < TOLERANCE
    assert largest_difference(exported, models[1], processor) < TOLERANCE


def refused(path: Path) -> list[tuple[Bucket, str]]:
    """An adapter whose names match nothing, which vLLM would serve as the base model; one of tower and
    projector too; and an empty one."""
    text = bucket_of_adapter(adapted(path, 1))
    unknown: Bucket = {name.replace("language_model.", "decoder."): held for name, held in text.items()}
    whole = bucket_of_adapter(adapted(path, 1, target_modules=["all-linear"]))
    return [
        (unknown, r"no adapter of base_model.model.model.decoder.layers.*\(28 of 28 tensors\)"),
        (whole, r"no adapter of base_model.model.model.(vision_tower|multi_modal_projector).* of "),
        ({}, r"no adapter of no layer \(0 of 0"),
    ]
