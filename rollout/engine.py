"""The interface to vLLM: the base class of the two engines.

    group = await engine.generate(request, frames)   any number at once: they share the running batch
    await engine.load_weights(version, buckets)      pauses sampling; new requests wait
    await engine.load_adapter(version, bucket)       alternative; running requests keep their adapter

`InProcessEngine` steps vLLM in a thread of this process, for small machines. `AsyncEngine` runs vLLM's
AsyncLLM, which computes in a process of its own. Every call to a dead engine raises `EngineDead`. An engine
whose weights were loaded only in part counts as dead: it must never sample again.
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
    """Totals since the start. `busy_s`: seconds during which at least one request was running."""

    requests: int
    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int
    busy_s: float


class Engine(ABC):
    """Samples groups of completions, and loads weights by version. Call it from one event loop only."""

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
        """Ids of tokens that are never sampled. The learner masks the same ids."""
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
        """The policy version that new requests sample from."""
        return self._version

    @property
    def adapter_versions(self) -> list[int]:
        """Versions of the adapters held, oldest first."""
        return self._adapters.held

    @property
    def paused_s(self) -> float:
        """Seconds since the start during which sampling was paused to replace weights."""
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
        """The arguments for vLLM's engine."""
        return engine_arguments(
            self._settings, self.masked_token_ids, self._image_options, self._linear_attention
        )

    def _vllm_config(self, arguments: type[EngineArgs]) -> VllmConfig:
        """Build vLLM's configuration of the engine. Raises EngineRefused if vLLM rejects it."""
        try:
            return arguments(**self.arguments).create_engine_config()
        except (ValueError, TypeError, NotImplementedError) as error:
            raise EngineRefused(f"vLLM refuses the engine's configuration: {error}") from error

    @abstractmethod
    async def start(self) -> None:
        """Load the model as version 0."""

    async def generate(self, request: SamplingRequest, frames: np.ndarray) -> Group:
        """Sample one completion per seed of `request`, all begun at the same policy version.

        If a new adapter arrives meanwhile, they finish under the adapter at which they began. If new weights
        arrive, `rollout.in_flight` decides how they continue.

        Args:
            request: the prompt, the seeds and the temperature; temperature 0 decodes greedily.
            frames: uint8 [T, H, W, 3], the frames of `request.ref`.

        Raises:
            ValueError: if vLLM rejects the request, for example because the prompt is too long.
            EngineDead: if the engine has failed for good.
        """
        if len(frames) != request.ref.n_frames:
            raise ValueError(f"{request.ref.path}: {len(frames)} frames for a ref of {request.ref.n_frames}")
        async with self._gate.entered():
            self._require_alive()
            version, started = self._version, time.perf_counter()
            prompt = {
                "prompt": prompt_text(self._processor, len(frames), request.question, request.ref.n_videos),
                # vLLM caches vision features by a hash of the pixels, so each frame, those of a perturbed
                # copy included, is encoded once.
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
        """Replace all weights by those in `buckets` (Hugging Face names) and clear the caches.

        An engine that serves adapters keeps its weights and loads the adapter that `buckets` hold.

        Raises EngineDead if anything fails: the engine then holds a mixture of old and new weights.
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
        """Run later requests under the adapter in `bucket` (peft's names).

        Running requests finish under the adapter at which they began. This waits for one of them only if
        every slot is taken.

        Raises:
            WeightsRefused: if a name matches no layer for which the engine serves adapters; nothing has
                changed.
            EngineDead: if anything else fails; it is then unknown which adapters the engine holds.
        """
        async with self._loading_adapter, AsyncExitStack() as stack:
            self._require_alive()
            await self._check_names(bucket)
            await self._remove(self._adapters.unused())
            if self._adapters.full:
                await stack.enter_async_context(self._gate.closed())
                await self._remove([await self._adapters.one_idle()])
            with self._fatal(f"loading the adapter of version {version}"):
                # Never reuse a number: vLLM caches prompts by the adapter's name, and after a resume the same
                # version may be another policy.
                adapter = await self._added(version, next(self._adapter_ids), bucket)
            self._adapters.adopt(adapter)
            self._version = version

    async def _check_names(self, bucket: Bucket) -> None:
        """Raise WeightsRefused for tensors that match no layer: vLLM ignores them without an error."""
        unknown = (await self._rpc("unknown_adapter_names", list(bucket)))[0]
        if unknown or not bucket:
            raise WeightsRefused(
                f"the engine serves no adapter of {', '.join(unknown[:3]) or 'no layer'} ({len(unknown)} of "
                f"{len(bucket)} tensors); set learner.lora.send to 'merged'"
            )

    async def _added(self, version: int, number: int, bucket: Bucket) -> Adapter:
        assert self._settings.adapters is not None, "the engine was started without adapters"
        with tempfile.TemporaryDirectory(prefix="adapter-") as folder:  # vLLM reads it only once
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
        """Join the sender's NCCL group, after leaving an older one.

        `init_info` holds the fields of vLLM's NCCLWeightTransferInitInfo, with this engine's own
        `rank_offset`. vLLM joins between two of its steps: running requests are kept, and only new ones wait.
        """
        async with self._gate.closed():
            self._require_alive()
            with self._fatal("joining the weight-transfer group"):
                await self._rpc("shutdown_weight_transfer_engine")
                await self._rpc("init_weight_transfer_engine", init_info)

    async def receive_weights(self, version: int, update_info: dict[str, Any]) -> None:
        """Do the same as `load_weights`, with weights from the sender's NCCL broadcast.

        `update_info` holds the fields of vLLM's NCCLWeightTransferUpdateInfo: names, dtype_names and shapes,
        in the order of sending.
        """
        async with self._replacing_weights(version):
            await self._rpc("start_weight_update")
            await self._rpc("update_weights", update_info)
            await self._rpc("finish_weight_update")

    @asynccontextmanager
    async def _replacing_weights(self, version: int) -> AsyncIterator[None]:
        """Pause sampling inside the block. Afterwards clear all caches and set the engine to `version`."""
        async with self._standstill():
            self._require_alive()
            with self._fatal(f"loading version {version}"):
                yield
                await self._adopt(version)
            self._version = version

    @abstractmethod
    async def close(self) -> None:
        """Free all resources and end the engine's processes. May be called more than once."""

    @abstractmethod
    async def _complete(
        self, prompt: Any, params: Sequence[SamplingParams], lora: LoRARequest | None
    ) -> list[RequestOutput]:
        """Return one finished output per item of `params`, in order, all sampled under one adapter."""

    @abstractmethod
    async def _add_lora(self, lora: LoRARequest) -> None:
        """Load an adapter into vLLM, which keeps it until `_remove_lora`."""

    @abstractmethod
    async def _remove_lora(self, number: int) -> None:
        """Remove an adapter that no request uses from vLLM."""

    @abstractmethod
    async def _rpc(self, method: str, *args: Any) -> list[Any]:
        """Call a method of every vLLM worker."""

    @abstractmethod
    async def _load_bucket(self, bucket: Bucket) -> None:
        """Send one bucket to every vLLM worker."""

    @abstractmethod
    def _standstill(self) -> AbstractAsyncContextManager[None]:
        """Pause the engine inside the block: no computation, no new requests. `_paused` measures the time."""

    @contextmanager
    def _paused(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._paused_s += time.perf_counter() - started

    @abstractmethod
    async def _adopt(self, version: int) -> None:
        """Record `version` for all later tokens, and clear the prefix, multimodal and encoder caches, whose
        entries were computed with the old weights."""

    @abstractmethod
    def _versions(self, output: RequestOutput, began_at: int) -> list[int]:
        """Return the policy version of each sampled token."""

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
        """Mark the engine dead if the block raises anything, cancellation included."""
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
        """Mark the engine dead, and return the EngineDead to raise."""
        if self._death is None:
            self._death = error
            logger.error("the engine died while %s", doing, exc_info=error)
        return EngineDead(f"the engine died while {doing}: {type(error).__name__}: {error}")


def _write_adapter(folder: Path, bucket: Bucket, serving: AdapterServing) -> None:
    """Write an adapter in peft's file format, from which vLLM loads it."""
    settings = {"peft_type": "LORA", "r": serving.rank, "lora_alpha": serving.alpha, "target_modules": []}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    save_file(dict(tensors_of(bucket)), folder / "adapter_model.safetensors")


def _sampling(request: SamplingRequest, seed: int | None) -> SamplingParams:
    """Return sampling parameters without top_p and top_k: the learner computes log-probs of the full
    distribution."""
    return SamplingParams(
        temperature=request.temperature,
        max_tokens=request.max_tokens,
        seed=seed,
        logprobs=0,  # only the log-prob of the sampled token
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
