"""An engine that steps vLLM in a thread of this process."""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from vllm import EngineArgs, SamplingParams
from vllm.config import VllmConfig
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.v1.engine.llm_engine import LLMEngine

from data.tensor_bytes import Bucket
from rollout.engine import Engine
from rollout.engine_arguments import EngineSettings
from rollout.errors import EngineDead


@dataclass(eq=False)
class _Batch:
    """The vLLM requests of one call: the same prompt once per item of `params`, under one adapter."""

    prompt: Any
    params: Sequence[SamplingParams]
    lora: LoRARequest | None
    future: asyncio.Future[list[RequestOutput]]
    request_ids: list[str] = field(default_factory=list)
    outputs: dict[str, RequestOutput] = field(default_factory=dict)


@dataclass(frozen=True)
class _Abort:
    batch: _Batch


@dataclass(frozen=True)
class _Call:
    function: Callable[[LLMEngine], Any]
    future: asyncio.Future[Any]


_Command = _Batch | _Abort | _Call | None  # None ends the thread


class InProcessEngine(Engine):
    """Runs vLLM's engine in one thread.

    Between two steps the thread takes commands from a queue, so a new call joins the running batch. Only the
    event loop accesses futures.
    """

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        self._commands: queue.SimpleQueue[_Command] = queue.SimpleQueue()
        self._waiting: set[asyncio.Future[Any]] = set()
        self._thread: threading.Thread | None = None

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        config = await asyncio.to_thread(self._vllm_config, EngineArgs)
        self._thread = threading.Thread(target=self._run, args=(config,), name="engine", daemon=True)
        self._thread.start()
        await self._ask(lambda engine: None)

    async def close(self) -> None:
        if self._thread is None:
            return
        self._commands.put(None)
        await asyncio.to_thread(self._thread.join)
        self._thread = None
        self._end_waiting(EngineDead("the engine was closed"))

    async def _complete(
        self, prompt: Any, params: Sequence[SamplingParams], lora: LoRARequest | None
    ) -> list[RequestOutput]:
        batch = _Batch(prompt, params, lora, self._future())
        self._commands.put(batch)
        try:
            return await batch.future
        except asyncio.CancelledError:
            self._commands.put(_Abort(batch))
            raise

    async def _add_lora(self, lora: LoRARequest) -> None:
        await self._ask(lambda engine: engine.add_lora(lora))

    async def _remove_lora(self, number: int) -> None:
        await self._ask(lambda engine: engine.remove_lora(number))

    async def _rpc(self, method: str, *args: Any) -> list[Any]:
        return await self._ask(lambda engine: engine.collective_rpc(method, args=args))

    async def _load_bucket(self, bucket: Bucket) -> None:
        await self._rpc("load_weight_bucket", bucket)

    @asynccontextmanager
    async def _standstill(self) -> AsyncIterator[None]:
        async with self._gate.drained():
            with self._paused():
                yield

    def _versions(self, output: RequestOutput, began_at: int) -> list[int]:
        return [began_at] * len(output.outputs[0].token_ids)

    async def _adopt(self, version: int) -> None:
        def reset(engine: LLMEngine) -> None:
            if not engine.reset_prefix_cache():
                raise RuntimeError("the prefix cache could not be reset: blocks are still in use")
            engine.reset_mm_cache()
            engine.reset_encoder_cache()

        await self._ask(reset)

    async def _ask(self, function: Callable[[LLMEngine], Any]) -> Any:
        """Run `function` in the engine's thread between two steps, and return its result."""
        call = _Call(function, self._future())
        self._commands.put(call)
        return await call.future

    def _future(self) -> asyncio.Future[Any]:
        self._require_alive()
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        return future

    # The methods below run in the engine's thread.

    def _run(self, config: VllmConfig) -> None:
        try:
            engine = LLMEngine.from_vllm_config(config, disable_log_stats=True)
            running: dict[str, _Batch] = {}
            while True:
                for command in self._next_commands(wait=not running):
                    if command is None:
                        engine.engine_core.shutdown()
                        return
                    self._execute(engine, command, running)
                if running:
                    for output in engine.step():
                        self._collect(output, running)
        except BaseException as error:
            self._post(self._on_death, error)

    def _next_commands(self, wait: bool) -> list[_Command]:
        commands = [self._commands.get()] if wait else []
        while not self._commands.empty():
            commands.append(self._commands.get())
        return commands

    def _execute(
        self, engine: LLMEngine, command: _Batch | _Abort | _Call, running: dict[str, _Batch]
    ) -> None:
        match command:
            case _Batch():
                self._submit(engine, command, running)
            case _Abort(batch):
                engine.abort_request(batch.request_ids)
                for request_id in batch.request_ids:
                    running.pop(request_id, None)
            case _Call(function, future):
                try:
                    self._post(_resolve, future, function(engine))
                except Exception as error:
                    self._post(_fail, future, error)

    def _submit(self, engine: LLMEngine, batch: _Batch, running: dict[str, _Batch]) -> None:
        """Render the prompt once, and add one request per completion to the running batch."""
        try:
            (rendered,) = engine.renderer.render_cmpl([batch.prompt])
            for params in batch.params:
                name = f"{id(batch)}-{len(batch.request_ids)}"
                engine.add_request(name, rendered, params, lora_request=batch.lora)
                batch.request_ids.append(name)
        except (ValueError, TypeError) as error:  # vLLM rejects the request
            engine.abort_request(batch.request_ids)
            self._post(_fail, batch.future, error)
        else:
            running.update(dict.fromkeys(batch.request_ids, batch))

    def _collect(self, output: RequestOutput, running: dict[str, _Batch]) -> None:
        if not output.finished:
            return
        batch = running.pop(output.request_id)
        batch.outputs[output.request_id] = output
        if len(batch.outputs) == len(batch.request_ids):
            self._post(_resolve, batch.future, [batch.outputs[name] for name in batch.request_ids])

    def _post(self, function: Callable[..., None], *args: Any) -> None:
        self._loop.call_soon_threadsafe(function, *args)

    # The methods below run in the event loop, scheduled by the thread.

    def _on_death(self, error: BaseException) -> None:
        self._end_waiting(self._die(error, "running"))

    def _end_waiting(self, dead: EngineDead) -> None:
        self._death = self._death or dead
        for future in list(self._waiting):
            _fail(future, dead)


def _resolve(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
