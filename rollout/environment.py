"""The kind of engine that a configuration selects, and its environment variables. Importable without vllm."""

import math
from typing import Literal

from rollout.config import RolloutConfig


def uses_async_engine(config: RolloutConfig) -> bool:
    """Return True if the engine is vLLM's AsyncLLM, which has its own processes."""
    return config.engine == "async" or (config.engine == "auto" and config.gpus_per_replica > 0)


def in_flight(config: RolloutConfig) -> Literal["keep", "finish", "abort"]:
    """Return `rollout.in_flight` with `auto` resolved."""
    if config.in_flight != "auto":
        return config.in_flight
    return "keep" if uses_async_engine(config) else "finish"


def executor(config: RolloutConfig) -> Literal["mp"] | None:
    """Return vLLM's `distributed_executor_backend`; None if the engine has one process.

    Inside an actor with a placement group vLLM defaults to its Ray backend, which rejects a bundle of more
    than one GPU. A worker's GPUs are in one bundle, and the processes that `mp` starts see all of them.
    """
    return "mp" if config.tensor_parallel_size > 1 else None


def engine_environment(config: RolloutConfig, model_is_local: bool) -> dict[str, str]:
    """Return the environment variables that must be set before vLLM is imported."""
    environment = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1" if uses_async_engine(config) else "0",
        "VLLM_ENGINE_READY_TIMEOUT_S": str(math.ceil(config.start_timeout_s)),  # vLLM's default: 600
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    if config.gpus_per_replica == 0:
        environment |= {
            "OMP_NUM_THREADS": str(max(1, int(config.cpus_per_replica))),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # pinned engines would share cores on a small machine
        }
    elif config.exact:
        environment["VLLM_BATCH_INVARIANT"] = "1"
    if model_is_local:
        environment["HF_HUB_OFFLINE"] = "1"
    return environment
