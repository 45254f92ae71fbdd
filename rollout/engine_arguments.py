"""What an engine is started with, and the arguments of vLLM that follow from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vllm.config import WeightTransferConfig

from data.frame_tokens import DEFAULT_FRAME_TOKENS, FrameTokens
from rollout.adapters import AdapterServing
from rollout.config import RolloutConfig
from rollout.environment import executor, uses_async_engine
from rollout.token_mask import CONFIG_KEY

CPU_KV_BLOCK_TOKENS = 32  # vLLM's CPU attention takes multiples of 32


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What an engine is started with. `seed` draws the samples of requests that bring none. With `adapters`
    the engine serves adapters, and its base model stays."""

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
    """Arguments of vLLM's engine, the same for both engines.

    Args:
        image_options: what `FrameTokens.image_options` makes of the model's processor.
        linear_attention: whether some layers of the text model have linear attention (Qwen3.5).
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
        "generation_config": "vllm",  # a checkpoint's own top_p and the like would change the policy
        "logprobs_mode": "processed_logprobs",
        "logits_processors": ["rollout.token_mask:TokenMask"],
        "additional_config": {CONFIG_KEY: masked_token_ids},
        # A prompt whose beginning is cached is computed in another shape, which moves its last bits.
        "enable_prefix_caching": False if config.exact else None,
        "worker_extension_cls": "rollout.weight_loading.WeightLoading",
        # The two halves of this cache, one in each process, rely on the order of messages; in one process
        # it spares the perturbed copy's frames their preprocessing.
        "mm_processor_cache_gb": 0 if uses_async_engine(config) else 0.1,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if settings.adapters is not None:
        # vLLM's CPU operators give requests without an adapter that of the last slot, beside others that have
        # one: it stays empty. Slots are filled from the first on.
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
        # vLLM's kernels of linear attention take bfloat16 alone on the CPU, and caching the states of prompts
        # needs the chunked prefill that is off below.
        common |= {"enable_prefix_caching": False}
    return common | {
        "dtype": "bfloat16" if linear_attention else "float32",
        "enforce_eager": True,  # spares a C++ compiler at run time
        "block_size": CPU_KV_BLOCK_TOKENS,
        "kv_cache_memory_bytes": config.kv_cache_mb * 2**20,
        # A request that is prefilled in parts cannot have a seed of its own on the CPU.
        "enable_chunked_prefill": False,
        "max_num_seqs": 1 if config.exact else config.max_concurrent_sequences,
    }


def _image_limits(settings: EngineSettings) -> dict[str, int]:
    """How many images a prompt has at most, and how large: vLLM reserves memory for images of that size, and
    without it for the largest that the processor lets pass (16,384 tokens with Qwen2.5-VL)."""
    largest_px = settings.frame_tokens.largest_px
    size = {} if largest_px is None else {"width": largest_px, "height": largest_px}
    return {"count": settings.frames_per_video, **size}
