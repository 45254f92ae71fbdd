"""vLLM's AsyncLLM: an engine process of its own, and tensor parallelism inside a node."""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from vllm import AsyncEngineArgs, SamplingParams
from vllm.exceptions import VLLMClientError
from vllm.outputs import RequestOutput
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from rollout.engine import Engine, EngineSettings, engine_arguments
from rollout.weights import pack


class AsyncEngine(Engine):
    """See the module's docstring."""

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        self._llm: AsyncLLM | None = None
        self._ids = itertools.count()

    @property
    def _engine(self) -> AsyncLLM:
        assert self._llm is not None, "start() comes first"
        return self._llm

    async def start(self) -> None:
        arguments = AsyncEngineArgs(**engine_arguments(self._settings, self.masked_token_ids))
        self._llm = AsyncLLM.from_engine_args(arguments)

    async def close(self) -> None:
        if self._llm is not None:
            await asyncio.to_thread(self._llm.shutdown)
            self._llm = None

    async def _complete(self, prompt: Any, params: Sequence[SamplingParams]) -> list[RequestOutput]:
        (rendered,) = await self._engine.renderer.render_cmpl_async([prompt])
        requests = [asyncio.ensure_future(self._one(rendered, p)) for p in params]
        try:
            return list(await asyncio.gather(*requests))
        except (EngineDeadError, EngineGenerateError) as error:
            raise self._die(error, "sampling") from error
        except VLLMClientError as error:
            raise ValueError(str(error)) from error
        finally:
            for request in requests:
                request.cancel()  # aborts it in the engine, where it is still running
            await asyncio.gather(*requests, return_exceptions=True)

    async def _one(self, rendered: Any, params: SamplingParams) -> RequestOutput:
        # FINAL_ONLY: the stream has one item.
        outputs = [o async for o in self._engine.generate(rendered, params, str(next(self._ids)))]
        return outputs[-1]

    async def _rpc(self, method: str, *args: Any) -> list[Any]:
        return await self._engine.collective_rpc(method, args=args)

    async def _load_bucket(self, bucket: Mapping[str, np.ndarray]) -> None:
        await self._rpc("load_packed_bucket", *pack(bucket))

    async def _reset_caches(self) -> None:
        if not await self._engine.reset_prefix_cache():
            raise RuntimeError("the prefix cache could not be reset: blocks are still in use")
        await self._engine.reset_mm_cache()
        await self._engine.reset_encoder_cache()
