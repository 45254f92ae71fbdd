"""The settings of an engine, and the vLLM arguments derived from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vllm.config import WeightTransferConfig

from data.frame_tokens import DEFAULT_FRAME_TOKENS, FrameTokens
from rollout.adapters import AdapterServing
from rollout.config import RolloutConfig
from rollout.environment import executor, uses_async_engine
from rollout.token_mask import CONFIG_KEY

CPU_KV_BLOCK_TOKENS = 32  # vLLM's CPU attention accepts multiples of 32 only


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Settings of one engine. `seed` is used for requests without a seed. If `adapters` is set, the engine
    serves adapters and never changes its base model."""

    model_path: str
    frames_per_video: int
    rollout: RolloutConfig
    seed: int
    trust_remote_code: bool = False
    frame_tokens: FrameTokens = DEFAULT_FRAME_TOKENS
    adapters: AdapterServing | None = None


def engine_arguments(
    settings: EngineSettings,
    masked_token_ids: list[int],
    image_options: Mapping[str, Any],
    linear_attention: bool = False,
) -> dict[str, Any]:
    """Return the arguments for vLLM, the same for `InProcessEngine` and `AsyncEngine`.

    Args:
        image_options: the result of `FrameTokens.image_options` for the model's processor.
        linear_attention: True if some layers of the text model use linear attention (Qwen3.5).
    """
    config = settings.rollout
    common: dict[str, Any] = {
        "model": settings.model_path,
        "trust_remote_code": settings.trust_remote_code,
        "max_model_len": config.max_model_tokens,
        "max_num_seqs": config.max_concurrent_sequences,
        "max_num_batched_tokens": max(config.max_batched_tokens, config.max_model_tokens),
        "limit_mm_per_prompt": {"image": _image_limits(settings), "video": 0},
        "mm_processor_kwargs": dict(image_options),
        "seed": settings.seed,
        "generation_config": "vllm",  # ignore a checkpoint's defaults such as top_p
        "logprobs_mode": "processed_logprobs",
        "logits_processors": ["rollout.token_mask:TokenMask"],
        "additional_config": {CONFIG_KEY: masked_token_ids},
        # With a cached prefix vLLM computes the rest of a prompt in another shape: the last bits change.
        "enable_prefix_caching": False if config.exact else None,
        "worker_extension_cls": "rollout.weight_loading.WeightLoading",
        # With AsyncLLM this cache is split over two processes and relies on the order of their messages, so
        # it is off. In one process it avoids preprocessing the same frames twice.
        "mm_processor_cache_gb": 0 if uses_async_engine(config) else 0.1,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if settings.adapters is not None:
        # In a mixed batch, vLLM's CPU operators apply the last slot's adapter to requests without one. One
        # slot more than needed keeps the last slot empty, because slots are filled from the first.
        slots = settings.adapters.slots + (config.gpus_per_replica == 0)
        common |= {
            "enable_lora": True,
            "max_lora_rank": settings.adapters.reserved_rank,
            "max_loras": slots,
            "max_cpu_loras": slots,
        }
    if config.gpus_per_replica > 0:
        return common | {
            "dtype": "bfloat16",
            "tensor_parallel_size": config.tensor_parallel_size,
            "distributed_executor_backend": executor(config),
            "gpu_memory_utilization": config.gpu_memory_utilization,
            "weight_transfer_config": WeightTransferConfig(backend="nccl"),
        }
    if linear_attention:
        # On the CPU, vLLM's kernels for linear attention accept bfloat16 only. Caching their states needs
        # chunked prefill, which is turned off below.
        common |= {"enable_prefix_caching": False}
    return common | {
        "dtype": "bfloat16" if linear_attention else "float32",
        "enforce_eager": True,  # needs no C++ compiler at run time
        "block_size": CPU_KV_BLOCK_TOKENS,
        "kv_cache_memory_bytes": config.kv_cache_mb * 2**20,
        # On the CPU, a request that is prefilled in chunks cannot have its own seed.
        "enable_chunked_prefill": False,
        "max_num_seqs": 1 if config.exact else config.max_concurrent_sequences,
    }


def _image_limits(settings: EngineSettings) -> dict[str, int]:
    """Return the maximum number and size of a prompt's images, for which vLLM reserves memory.

    Without a size it reserves memory for the largest image that the processor accepts (16,384 tokens with
    Qwen2.5-VL).
    """
    largest_px = settings.frame_tokens.largest_px
    size = {} if largest_px is None else {"width": largest_px, "height": largest_px}
    return {"count": settings.frames_per_video, **size}
