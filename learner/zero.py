"""DeepSpeed ZeRO-3: sets up the process group, the configuration and the engines."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from learner.config import LearnerConfig
from learner.policy import UnsupportedModel
from learner.tying import tie_unless_apart, without_tying

Device = Literal["cpu", "cuda"]
OptimizerFactory = Callable[[Iterable[nn.Parameter], LearnerConfig], torch.optim.Optimizer]


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """Address of rank 0, and the rank of the process that joins."""

    host: str
    port: int
    rank: int
    world: int
    timeout_s: float


def join_process_group(where: Rendezvous, device: Device) -> None:
    """Make this process one rank of the learner. Call this before any other use of DeepSpeed."""
    # Each actor sees only the GPU that Ray assigned to it. On the CPU the index has no effect.
    local_rank = 0 if device == "cuda" else where.rank
    os.environ.update(
        RANK=str(where.rank),
        WORLD_SIZE=str(where.world),
        LOCAL_RANK=str(local_rank),
        LOCAL_SIZE=str(where.world),
        MASTER_ADDR=where.host,
        MASTER_PORT=str(where.port),
        DS_ACCELERATOR=device,
    )
    import deepspeed
    import deepspeed.ops

    _silence()
    if device == "cpu":
        # Otherwise DeepSpeed compiles a shared-memory collective with g++ at first use, which takes minutes.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    # Call torch's function: DeepSpeed's binds the group to a device, which makes later communicators for
    # weight transfer hang.
    torch.distributed.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        rank=where.rank,
        world_size=where.world,
        timeout=timedelta(seconds=where.timeout_s),
    )
    deepspeed.init_distributed(dist_backend="nccl" if device == "cuda" else "gloo", verbose=False)


def leave_process_group() -> None:
    """Wait for the other ranks and destroy the process group. A rank that exits without this can abort."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def compute_dtype(device: Device) -> torch.dtype:
    """Return bfloat16 on GPUs (with float32 master weights), float32 on the CPU."""
    return torch.bfloat16 if device == "cuda" else torch.float32


def zero_config(config: LearnerConfig, device: Device) -> dict[str, Any]:
    """Return DeepSpeed's configuration of the trained engine.

    DeepSpeed does not manage gradient accumulation: after any number of backward passes, each reduced and
    partitioned when it ends, follows one step. Ranks must agree on the number of passes but need not declare
    it beforehand.
    """
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": config.max_grad_norm,
        "zero_optimization": {"stage": 3, "overlap_comm": False, **_offload(config, device)},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
        **_precision(device),
    }


def reference_config(config: LearnerConfig, device: Device) -> dict[str, Any]:
    """Return DeepSpeed's configuration of the frozen reference: sharded parameters, no optimizer."""
    offload = _offload(config, device)
    offload.pop("offload_optimizer", None)
    return {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": 3, **offload},
        "steps_per_print": 10**9,
        **_precision(device),
    }


def load_sharded(model_path: str, config: LearnerConfig, device: Device, trust_remote_code: bool) -> Any:
    """Load the Hugging Face model, partitioning its parameters over the ranks while reading them.

    Dtypes and values equal those of a plain `from_pretrained`, also for buffers computed in constructors.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.integrations import HfDeepSpeedConfig

    model_config = AutoConfig.from_pretrained(model_path, trust_remote_code=trust_remote_code)
    tied = without_tying(model_config)
    # Keep this object alive while loading: transformers holds only a weak reference to it.
    alive = HfDeepSpeedConfig(reference_config(config, device))
    with _constructors_keep_types():
        model, loaded = AutoModelForImageTextToText.from_pretrained(
            model_path,
            config=model_config,
            output_loading_info=True,
            dtype=compute_dtype(device),
            attn_implementation=config.attention,
            trust_remote_code=trust_remote_code,
        )
    del alive
    if tied:
        tie_unless_apart(model, loaded["missing_keys"])
    for buffer in model.buffers():
        # zero.Init moves tensors made by torch.arange and a few other functions, but not by torch.linspace.
        buffer.data = buffer.data.to(device)
    _require_one_type(model, compute_dtype(device))
    return model


def _require_one_type(model: Any, dtype: torch.dtype) -> None:
    """Raise UnsupportedModel if plain loading in `dtype` would keep some parameters in another dtype: ZeRO-3
    trains parameters of a single dtype only."""
    from deepspeed.runtime.keep_in_fp32 import keep_in_fp32_pattern

    kept = keep_in_fp32_pattern(model, "auto", dtype)
    odd = [n for n, p in model.named_parameters() if p.dtype != dtype or (kept and kept.search(n))]
    if odd:
        raise UnsupportedModel(
            f"model.path: {type(model).__name__} keeps {len(odd)} parameters ({odd[0]}) in another type than "
            f"{dtype}, and DeepSpeed ZeRO-3 trains parameters of one type; choose a model without them"
        )


@contextmanager
def _constructors_keep_types() -> Iterator[None]:
    """Make `zero.Init` move the tensors that a model's constructors create, without changing their dtypes.

    By default it also casts them to the parameters' dtype. Rotary frequencies are computed from a float32
    `torch.arange`; rounded to bfloat16 they are wrong by several turns at positions in the thousands.
    transformers passes no `tensor_overrides`, and sets the parameters' dtype itself.
    """
    import deepspeed
    from deepspeed.runtime.zero import DeepSpeedTensorOverride

    original = deepspeed.zero.Init
    deepspeed.zero.Init = partial(original, tensor_overrides=[DeepSpeedTensorOverride.device])
    try:
        yield
    finally:
        deepspeed.zero.Init = original


def adamw(parameters: Iterable[nn.Parameter], config: LearnerConfig) -> torch.optim.Optimizer:
    """Create torch's AdamW with the settings of `config`. In host memory it is fused, which needs no
    temporary copies."""
    return torch.optim.AdamW(
        parameters,
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True if config.offload != "none" else None,
    )


def sgd(parameters: Iterable[nn.Parameter], config: LearnerConfig) -> torch.optim.Optimizer:
    """Create plain SGD, whose step is proportional to the gradient, for tests of exactness."""
    return torch.optim.SGD(parameters, lr=config.lr)


def train_engine(
    policy: nn.Module, config: LearnerConfig, device: Device, make_optimizer: OptimizerFactory
) -> Any:
    """Create a DeepSpeed engine that trains `policy`."""
    import deepspeed

    trainable = [p for p in policy.parameters() if p.requires_grad]
    engine, *_ = deepspeed.initialize(
        model=policy, optimizer=make_optimizer(trainable, config), config=zero_config(config, device)
    )
    return engine


def reference_engine(policy: nn.Module, config: LearnerConfig, device: Device) -> Any:
    """Create a DeepSpeed engine for inference only, in the same process as the trained one."""
    import deepspeed

    policy.requires_grad_(False)
    policy.eval()
    engine, *_ = deepspeed.initialize(model=policy, config=reference_config(config, device))
    return engine


def _offload(config: LearnerConfig, device: Device) -> dict[str, Any]:
    """Return the offload part of the configuration. Host memory is pinned, so copies overlap computation."""
    host = {"device": "cpu", "pin_memory": device == "cuda"}
    moved: dict[str, Any] = {}
    if config.offload != "none":
        moved["offload_optimizer"] = host
    if config.offload == "optimizer_and_parameters":
        moved["offload_param"] = dict(host)
    return moved


def _precision(device: Device) -> dict[str, Any]:
    if compute_dtype(device) == torch.float32:
        return {}
    return {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}


def _silence() -> None:
    """Stop libraries from logging a line per bucket and per deprecation on every rank."""
    from deepspeed.utils.logging import set_log_level_from_string
    from transformers.utils import logging as transformers_logging

    set_log_level_from_string("error")
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    warnings.filterwarnings(
        "ignore",
        category=FutureWarning,
        message=r".*torch\.distributed\.(all_gather_into_tensor|reduce_scatter_tensor)",
    )
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)
