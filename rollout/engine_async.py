"""An engine around vLLM's AsyncLLM: a separate engine process, with tensor parallelism inside a node."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from vllm import AsyncEngineArgs, SamplingParams
from vllm.exceptions import VLLMClientError
from vllm.lora.request import LoRARequest
from vllm.outputs import CompletionOutput, RequestOutput, WeightVersionSpan
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from data.seeds import stable_hash
from data.tensor_bytes import Bucket, pack
from rollout.engine import Engine
from rollout.engine_arguments import EngineSettings
from rollout.environment import in_flight


class AsyncEngine(Engine):
    """Runs vLLM's AsyncLLM."""

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        self._llm: AsyncLLM | None = None
        self._ids = itertools.count()
        self._mode = in_flight(settings.rollout)

    @property
    def _engine(self) -> AsyncLLM:
        assert self._llm is not None, "start() comes first"
        return self._llm

    async def start(self) -> None:
        config = self._vllm_config(AsyncEngineArgs)
        self._llm = AsyncLLM.from_vllm_config(config, disable_log_stats=True)
        await self._engine.update_weight_version(str(self._version))

    async def close(self) -> None:
        if self._llm is not None:
            await asyncio.to_thread(self._llm.shutdown)
            self._llm = None

    async def _complete(
        self, prompt: Any, params: Sequence[SamplingParams], lora: LoRARequest | None
    ) -> list[RequestOutput]:
        (rendered,) = await self._engine.renderer.render_cmpl_async([prompt])
        complete = self._kept if self._mode == "keep" else self._one
        while True:
            outputs = await self._together(complete(rendered, p, lora) for p in params)
            if not any(_broken_off(output) for output in outputs):
                return outputs
            await self._gate.opened()  # sample the group again under the new weights

    async def _together(self, requests: Iterable[Coroutine[Any, Any, RequestOutput]]) -> list[RequestOutput]:
        tasks = [asyncio.ensure_future(request) for request in requests]
        try:
            return list(await asyncio.gather(*tasks))
        except (EngineDeadError, EngineGenerateError) as error:
            raise self._die(error, "sampling") from error
        except VLLMClientError as error:
            raise ValueError(str(error)) from error
        finally:
            for task in tasks:
                task.cancel()  # also aborts the request in the engine
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _kept(self, rendered: Any, params: SamplingParams, lora: LoRARequest | None) -> RequestOutput:
        """Sample one completion. Each time new weights interrupt it, resume it after its last token.

        vLLM can freeze requests instead, but that fails with images: a request whose frames were in the
        prefix cache no longer has their pixels once all caches are cleared.
        """
        whole = await self._one(rendered, params, lora)
        while _broken_off(whole):
            await self._gate.opened()
            done = whole.outputs[0]
            if len(done.token_ids) == params.max_tokens:
                done.finish_reason = "length"
                break
            rest = params.clone()
            rest.max_tokens = params.max_tokens - len(done.token_ids)
            rest.seed = None if params.seed is None else stable_hash(params.seed, len(done.token_ids))
            ids = [*rendered["prompt_token_ids"], *done.token_ids]
            more = await self._one({**rendered, "prompt_token_ids": ids}, rest, lora)
            _append(done, more.outputs[0])
        return whole

    async def _one(self, rendered: Any, params: SamplingParams, lora: LoRARequest | None) -> RequestOutput:
        name = str(next(self._ids))
        # With FINAL_ONLY the stream has one item.
        outputs = [o async for o in self._engine.generate(rendered, params, name, lora_request=lora)]
        return outputs[-1]

    async def _add_lora(self, lora: LoRARequest) -> None:
        await self._engine.add_lora(lora)

    async def _remove_lora(self, number: int) -> None:
        await self._engine.remove_lora(number)

    @asynccontextmanager
    async def _standstill(self) -> AsyncIterator[None]:
        if self._mode == "finish":
            async with self._gate.drained():
                with self._paused():
                    yield
            return
        async with self._gate.closed():
            with self._paused():
                with self._fatal("pausing for new weights"):
                    await self._engine.pause_generation(mode="abort", clear_cache=True)
                yield
                with self._fatal("going on under new weights"):
                    await self._engine.resume_generation()

    def _versions(self, output: RequestOutput, began_at: int) -> list[int]:
        spans = output.outputs[0].weight_versions or []
        return [int(span.version) for span in spans for _ in range(span.start, span.end)]

    async def _rpc(self, method: str, *args: Any) -> list[Any]:
        return await self._engine.collective_rpc(method, args=args)

    async def _load_bucket(self, bucket: Bucket) -> None:
        await self._rpc("load_packed_bucket", *pack(bucket))

    async def _adopt(self, version: int) -> None:
        if not await self._engine.reset_prefix_cache():
            raise RuntimeError("the prefix cache could not be reset: blocks are still in use")
        await self._engine.reset_mm_cache()
        await self._engine.reset_encoder_cache()
        await self._engine.update_weight_version(str(version))


def _broken_off(output: RequestOutput) -> bool:
    return output.outputs[0].finish_reason == "abort"


def _append(done: CompletionOutput, rest: CompletionOutput) -> None:
    """Append `rest` to `done`, the earlier part of the same completion, in place."""
    n = len(done.token_ids)
    moved = [WeightVersionSpan(s.version, n + s.start, n + s.end) for s in rest.weight_versions or []]
    done.weight_versions = [*(done.weight_versions or []), *moved]
    done.logprobs = [*(done.logprobs or []), *(rest.logprobs or [])]
    done.token_ids = [*done.token_ids, *rest.token_ids]
    done.finish_reason = rest.finish_reason
