"""Adapters of a tiny model, and an engine that serves them, in a process of its own.

Functions named `engine_*` run in that process; it keeps the engine in this module's globals.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.records import Group, SamplingRequest, VideoRef
from data.tensor_bytes import Bucket, bucket_of, tensors_of
from learner.config import LearnerConfig
from rollout.adapters import Adapter, AdapterServing
from rollout.config import RolloutConfig

RANK, ALPHA = 4, 6.0
LORA: dict[str, Any] = {"rank": RANK, "alpha": ALPHA}

_here: dict[str, Any] = {}


def adapted(path: Path, seed: int, **lora: Any) -> Any:
    """A model with adapters as after much training: random, and no matrix is zero."""
    import torch

    from learner.policy import prepare_model
    from tests.plain_torch import load

    model = load(path)[0]
    prepare_model(model, LearnerConfig.model_validate({"lora": LORA | lora}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def bucket_of_adapter(model: Any) -> Bucket:
    """As the learner sends it."""
    from learner.lora import adapter_name, is_adapter

    return bucket_of({adapter_name(n): p for n, p in model.named_parameters() if is_adapter(n)})


def export(model: Any, folder: Path) -> None:
    """As a run does at its end."""
    from learner.lora import save_adapter

    save_adapter(model, dict(tensors_of(bucket_of_adapter(model))), folder)


def engine_start(path: Path, config: RolloutConfig, n_frames: int, slots: int) -> None:
    from rollout.engine_arguments import EngineSettings
    from rollout.engines import make_engine

    serving = AdapterServing(RANK, ALPHA, slots)
    _here["loop"] = asyncio.new_event_loop()
    _here["engine"] = make_engine(EngineSettings(str(path), n_frames, config, seed=0, adapters=serving))
    _run(_here["engine"].start())


def engine_stop() -> None:
    _run(_here.pop("engine").close())
    _here.pop("loop").close()


def engine_load(version: int, bucket: Bucket) -> list[int]:
    """The versions of the adapters that the engine holds afterwards."""
    _run(_here["engine"].load_adapter(version, bucket))
    return list(_here["engine"].adapter_versions)


def engine_sample(frames: np.ndarray, seeds: Sequence[int], tokens: int) -> Group:
    return _run(_here["engine"].generate(_request(len(frames), seeds, tokens), frames))


def engine_sample_exported(folder: Path, frames: np.ndarray, seeds: Sequence[int], tokens: int) -> Group:
    """Under the adapter that a run has left in `folder`, read by vLLM itself."""
    from vllm.lora.request import LoRARequest

    async def sample() -> Group:
        engine, lora = _here["engine"], LoRARequest("exported", 1000, str(folder))
        await engine._add_lora(lora)
        engine._adapters.adopt(Adapter(1000, lora))
        return await engine.generate(_request(len(frames), seeds, tokens), frames)

    return _run(sample())


def engine_sample_across(
    frames: np.ndarray, tokens: int, buckets: Sequence[tuple[int, Bucket]]
) -> tuple[list[Group], list[list[int]]]:
    """Groups of which one begins before each of `buckets` is loaded and one after the last, and the versions
    held after each load. All groups but the last are sampled while adapters come."""

    async def sample() -> tuple[list[Group], list[list[int]]]:
        engine, held, groups = _here["engine"], [], []
        for number, (version, bucket) in enumerate(buckets):
            seeds = [10 * number, 10 * number + 1]
            groups.append(asyncio.create_task(engine.generate(_request(len(frames), seeds, tokens), frames)))
            while not engine._adapters._current.running:
                await asyncio.sleep(0)
            await asyncio.sleep(0.1)
            assert not groups[-1].done(), "the group ended before the adapter came"
            await engine.load_adapter(version, bucket)
            held.append(list(engine.adapter_versions))
        groups.append(asyncio.create_task(engine.generate(_request(len(frames), [98, 99], tokens), frames)))
        return list(await asyncio.gather(*groups)), held

    return _run(sample())


def _request(n_frames: int, seeds: Sequence[int], tokens: int) -> SamplingRequest:
    return SamplingRequest(VideoRef("v", "/v.mp4", n_frames), tuple(seeds), 1.0, tokens)


def _run(work: Any) -> Any:
    return _here["loop"].run_until_complete(work)


def greedy_answer(model: Path, adapter: Path | None) -> list[int]:
    """Tokens that vLLM's own entry point answers with, under an adapter in peft's format if one is given."""
    from PIL import Image
    from transformers import AutoProcessor
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    from data.prompt import prompt_text
    from tests.conftest import moving_frames

    llm = LLM(
        str(model),
        dtype="float32",
        enforce_eager=True,
        max_model_len=1024,
        block_size=32,
        kv_cache_memory_bytes=2**26,
        limit_mm_per_prompt={"image": 2},
        enable_lora=adapter is not None,
    )
    images = [Image.fromarray(frame) for frame in moving_frames(2, 96)]
    prompt = {
        "prompt": prompt_text(AutoProcessor.from_pretrained(model), 2),
        "multi_modal_data": {"image": images},
    }
    request = None if adapter is None else LoRARequest("exported", 1, str(adapter))
    (output,) = llm.generate([prompt], SamplingParams(temperature=0, max_tokens=40), lora_request=request)
    return list(output.outputs[0].token_ids)
