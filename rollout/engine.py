"""The seam to vLLM: what an engine is asked, and the two engines that answer.

    group = await engine.generate(request, frames)   any number at once: they share the running batch
    await engine.load_weights(version, buckets)      waits for those running, holds newcomers back
    await engine.load_adapter(version, bucket)       in its place: those running end under their own adapter

`InProcessEngine` steps vLLM in a thread of this process, for small machines. `AsyncEngine` is vLLM's
AsyncLLM, whose engine process leaves this one free. A dead engine raises `EngineDead` from every call, and
so does one whose weights were loaded only in part: it must never sample again.
"""

import asyncio
import itertools
import json
import logging
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.torch import save_file
from vllm import EngineArgs, SamplingParams
from vllm.config import VllmConfig
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind

from data.errors import PermanentError
from data.model_check import load_checked
from data.prompt import prompt_text
from data.records import Completion, Group, SamplingRequest
from data.tensor_bytes import Bucket, tensors_of
from rollout.adapters import Adapter, AdapterServing, AdapterSlots
from rollout.drain_gate import DrainGate
from rollout.engine_arguments import EngineSettings, engine_arguments
from rollout.errors import EngineDead, EngineRefused, WeightsRefused

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Totals since the start. `busy_s` are seconds with at least one request running."""

    requests: int
    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int
    busy_s: float


class Engine(ABC):
    """Prompts in, groups out, and weights by version. Every call belongs to one event loop."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        checked = load_checked(
            settings.model_path,
            settings.trust_remote_code,
            settings.frame_tokens,
            settings.rollout.max_model_tokens,
        )
        self._processor, self._image_options = checked.processor, checked.image_options
        self.masked_token_ids = checked.masked_token_ids
        """Ids never sampled; the learner masks the same."""
        kinds = getattr(checked.config.get_text_config(), "layer_types", None) or []
        self._linear_attention = "linear_attention" in kinds
        self._gate = DrainGate()
        self._adapters = AdapterSlots(settings.adapters.slots if settings.adapters else 0)
        self._adapter_ids = itertools.count(1)
        self._loading_adapter = asyncio.Lock()
        self._version = 0
        self._death: BaseException | None = None
        self._requests = self._prompt_tokens = self._cached_tokens = self._completion_tokens = 0
        self._paused_s = 0.0

    @property
    def version(self) -> int:
        """The policy version that a request which begins now samples from."""
        return self._version

    @property
    def adapter_versions(self) -> list[int]:
        """Versions of the adapters held, oldest first."""
        return self._adapters.held

    @property
    def paused_s(self) -> float:
        """Seconds since the start in which nothing ran because weights were replaced."""
        return self._paused_s

    @property
    def stats(self) -> EngineStats:
        return EngineStats(
            self._requests,
            self._prompt_tokens,
            self._cached_tokens,
            self._completion_tokens,
            self._gate.busy_s,
        )

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of vLLM's engine."""
        return engine_arguments(
            self._settings, self.masked_token_ids, self._image_options, self._linear_attention
        )

    def _vllm_config(self, arguments: type[EngineArgs]) -> VllmConfig:
        """vLLM's configuration of the engine. Raises EngineRefused if vLLM does not accept it."""
        try:
            return arguments(**self.arguments).create_engine_config()
        except (ValueError, TypeError, NotImplementedError) as error:
            raise EngineRefused(f"vLLM refuses the engine's configuration: {error}") from error

    @abstractmethod
    async def start(self) -> None:
        """Load the model; the engine then holds version 0."""

    async def generate(self, request: SamplingRequest, frames: np.ndarray) -> Group:
        """Sample one completion for each seed of `request`, all begun at the same policy version. When a new
        adapter comes meanwhile they end under their own; when new weights come, `rollout.in_flight` says
        what becomes of them.

        Args:
            request: whom to ask and how; temperature 0 decodes greedily.
            frames: uint8 [T, H, W, 3], the pixels that `request.ref` names.

        Raises:
            ValueError: if vLLM refuses the request, too long a prompt for example.
            EngineDead: if the engine cannot go on.
        """
        if len(frames) != request.ref.n_frames:
            raise ValueError(f"{request.ref.path}: {len(frames)} frames for a ref of {request.ref.n_frames}")
        async with self._gate.entered():
            self._require_alive()
            version, started = self._version, time.perf_counter()
            prompt = {
                "prompt": prompt_text(self._processor, len(frames), request.question, request.ref.n_videos),
                # vLLM hashes the pixels, so a perturbed copy's frames come out of the vision tower once.
                "multi_modal_data": {"image": [Image.fromarray(frame) for frame in frames]},
            }
            params = [_sampling(request, seed) for seed in request.seeds]
            with self._adapters.used() as adapter:
                outputs = await self._complete(prompt, params, adapter.lora)
        cached = sum(output.num_cached_tokens or 0 for output in outputs)
        self._requests += len(outputs)
        self._prompt_tokens += sum(len(output.prompt_token_ids) for output in outputs)
        self._cached_tokens += cached
        completions = [self._completion(o, version, s) for o, s in zip(outputs, request.seeds, strict=True)]
        self._completion_tokens += sum(len(c.token_ids) for c in completions)
        return Group(
            ref=request.ref,
            prompt_token_ids=list(outputs[0].prompt_token_ids),
            completions=completions,
            sampled_s=time.perf_counter() - started,
            cached_prompt_tokens=cached,
        )

    async def load_weights(self, version: int, buckets: AsyncIterable[Bucket]) -> None:
        """Replace all weights by those of `buckets` (Hugging Face names) and forget what the old ones made.
        An engine that serves adapters keeps its weights and takes the adapter that `buckets` hold.

        Raises EngineDead if anything fails on the way: the engine then holds neither the old weights nor the
        new.
        """
        if self._settings.adapters is not None:
            adapter = {name: held async for bucket in buckets for name, held in bucket.items()}
            await self.load_adapter(version, adapter)
            return
        async with self._replacing_weights(version):
            await self._rpc("begin_weight_load")
            async for bucket in buckets:
                await self._load_bucket(bucket)
            missing = (await self._rpc("finish_weight_load"))[0]
            if missing:
                raise WeightsRefused(f"no bucket held {', '.join(missing[:5])} ({len(missing)} parameters)")

    async def load_adapter(self, version: int, bucket: Bucket) -> None:
        """Have requests that begin from here on run under the adapter in `bucket` (peft's names). Those
        running end under the adapter at which they began; they are waited for only if every slot is taken.

        Raises:
            WeightsRefused: if a name is of no layer that the engine serves adapters of; nothing has changed.
            EngineDead: if anything else fails; which adapters the engine holds is then unknown.
        """
        async with self._loading_adapter, AsyncExitStack() as stack:
            self._require_alive()
            await self._check_names(bucket)
            await self._remove(self._adapters.unused())
            if self._adapters.full:
                await stack.enter_async_context(self._gate.closed())
                await self._remove([await self._adapters.one_idle()])
            with self._fatal(f"loading the adapter of version {version}"):
                # A number is never used again: a version that is trained again is another policy, and prompts
                # are cached by an adapter's name.
                adapter = await self._added(version, next(self._adapter_ids), bucket)
            self._adapters.adopt(adapter)
            self._version = version

    async def _check_names(self, bucket: Bucket) -> None:
        """vLLM leaves out without a word what matches none of its layers."""
        unknown = (await self._rpc("unknown_adapter_names", list(bucket)))[0]
        if unknown or not bucket:
            raise WeightsRefused(
                f"the engine serves no adapter of {', '.join(unknown[:3]) or 'no layer'} ({len(unknown)} of "
                f"{len(bucket)} tensors); set learner.lora.send to 'merged'"
            )

    async def _added(self, version: int, number: int, bucket: Bucket) -> Adapter:
        assert self._settings.adapters is not None, "the engine was started without adapters"
        with tempfile.TemporaryDirectory(prefix="adapter-") as folder:  # vLLM reads it once
            await asyncio.to_thread(_write_adapter, Path(folder), bucket, self._settings.adapters)
            lora = LoRARequest(f"version-{version}-{number}", number, folder)
            await self._add_lora(lora)
        return Adapter(version, lora)

    async def _remove(self, adapters: Sequence[Adapter]) -> None:
        with self._fatal("removing an adapter"):
            for adapter in adapters:
                assert adapter.lora is not None
                await self._remove_lora(adapter.lora.lora_int_id)
                self._adapters.drop(adapter)

    async def init_transfer(self, init_info: dict[str, Any]) -> None:
        """Join the sender's NCCL group. `init_info` holds the fields of vLLM's NCCLWeightTransferInitInfo,
        with a `rank_offset` that is this engine's alone; an older group is left first. vLLM joins between two
        of its steps, so running requests stay, and only new ones wait."""
        async with self._gate.closed():
            self._require_alive()
            with self._fatal("joining the weight-transfer group"):
                await self._rpc("shutdown_weight_transfer_engine")
                await self._rpc("init_weight_transfer_engine", init_info)

    async def receive_weights(self, version: int, update_info: dict[str, Any]) -> None:
        """Like `load_weights`, out of the sender's NCCL broadcast. `update_info` holds the fields of vLLM's
        NCCLWeightTransferUpdateInfo: names, dtype_names and shapes, in the order of sending."""
        async with self._replacing_weights(version):
            await self._rpc("start_weight_update")
            await self._rpc("update_weights", update_info)
            await self._rpc("finish_weight_update")

    @asynccontextmanager
    async def _replacing_weights(self, version: int) -> AsyncIterator[None]:
        """Nothing is sampled inside; afterwards all caches are empty and the engine holds `version`."""
        async with self._standstill():
            self._require_alive()
            with self._fatal(f"loading version {version}"):
                yield
                await self._adopt(version)
            self._version = version

    @abstractmethod
    async def close(self) -> None:
        """Free everything, processes included. May be called more than once."""

    @abstractmethod
    async def _complete(
        self, prompt: Any, params: Sequence[SamplingParams], lora: LoRARequest | None
    ) -> list[RequestOutput]:
        """One finished output for each of `params`, in order, under one adapter."""

    @abstractmethod
    async def _add_lora(self, lora: LoRARequest) -> None:
        """Have vLLM read an adapter and keep it."""

    @abstractmethod
    async def _remove_lora(self, number: int) -> None:
        """Have vLLM free an adapter that no request uses."""

    @abstractmethod
    async def _rpc(self, method: str, *args: Any) -> list[Any]:
        """Call a method of every vLLM worker."""

    @abstractmethod
    async def _load_bucket(self, bucket: Bucket) -> None:
        """Hand one bucket to every vLLM worker."""

    @abstractmethod
    def _standstill(self) -> AbstractAsyncContextManager[None]:
        """The engine computes nothing inside, and lets nothing new begin; `_paused` counts the seconds."""

    @contextmanager
    def _paused(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._paused_s += time.perf_counter() - started

    @abstractmethod
    async def _adopt(self, version: int) -> None:
        """Tokens are `version`'s from here on. Drops the prefix, multimodal and encoder caches: all hold what
        the old weights made."""

    @abstractmethod
    def _versions(self, output: RequestOutput, began_at: int) -> list[int]:
        """The policy version of each sampled token."""

    def _completion(self, output: RequestOutput, version: int, seed: int | None) -> Completion:
        sampled = output.outputs[0]
        if sampled.finish_reason not in ("stop", "length"):
            raise self._die(RuntimeError(f"a request ended with '{sampled.finish_reason}'"), "sampling")
        ids = list(sampled.token_ids)
        return Completion(
            token_ids=ids,
            logprobs=[row[id_].logprob for row, id_ in zip(sampled.logprobs, ids, strict=True)],
            text=self._processor.tokenizer.decode(ids, skip_special_tokens=True),
            finish_reason=sampled.finish_reason,
            versions=[version] * len(ids) if self._settings.adapters else self._versions(output, version),
            seed=seed,
        )

    def _require_alive(self) -> None:
        if self._death is not None:
            raise EngineDead(f"the engine is dead: {self._death}") from self._death

    @contextmanager
    def _fatal(self, doing: str) -> Iterator[None]:
        """Whatever goes wrong inside leaves the engine dead, being called off included."""
        try:
            yield
        except asyncio.CancelledError as error:
            self._die(error, doing)
            raise
        except PermanentError as error:
            self._die(error, doing)
            raise
        except Exception as error:
            raise self._die(error, doing) from error

    def _die(self, error: BaseException, doing: str) -> EngineDead:
        """Mark the engine dead, and return the error that says so."""
        if self._death is None:
            self._death = error
            logger.error("the engine died while %s", doing, exc_info=error)
        return EngineDead(f"the engine died while {doing}: {type(error).__name__}: {error}")


def _write_adapter(folder: Path, bucket: Bucket, serving: AdapterServing) -> None:
    """Write the files that vLLM loads an adapter from: peft's."""
    settings = {"peft_type": "LORA", "r": serving.rank, "lora_alpha": serving.alpha, "target_modules": []}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    save_file(dict(tensors_of(bucket)), folder / "adapter_model.safetensors")


def _sampling(request: SamplingRequest, seed: int | None) -> SamplingParams:
    """Temperature only: log-probs of a truncated distribution could not be had again from the learner."""
    return SamplingParams(
        temperature=request.temperature,
        max_tokens=request.max_tokens,
        seed=seed,
        logprobs=0,  # the sampled token's own, and no others
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
