"""Computes the GPU memory of a run, and its learner's host memory, before hardware is rented.

Pure. docs/memory.md shows the same calculation by hand.

There are two budgets: for a GPU of a learner rank (ZeRO-3 shards in bfloat16 with float32 master weights) and
for a GPU of a rollout replica (vLLM). Sizes that depend on the answers are the largest that the settings
allow. GB are 1e9 bytes.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any

from cluster.config import RunConfig
from cluster.planning.adapters import adapter_serving
from cluster.planning.architecture import Architecture, Linear
from learner.config import ALL_LINEAR, LANGUAGE_MODEL, LearnerConfig, LoraConfig
from runtime.errors import ConfigError

GPU_SIZES_GB = (80, 48, 24)

# DeepSpeed's defaults, in parameters (deepspeed/runtime/zero/config.py).
LIVE_PARAMETERS = 1e9
REDUCE_BUCKET = 5e8
OPTIMIZER_SUB_GROUP = 1e9

OFFLOADS = ("none", "optimizer", "optimizer_and_parameters")
"""Values of `learner.offload`, ordered by how much they move to host memory."""

PROMPT_TEXT_TOKENS = 200
FRAME_MARKER_TOKENS = 8
LOGIT_BYTES = 20
"""Bytes per position and vocabulary entry: logits, masked logits, log-probs, probabilities and a gradient,
all in float32."""
OPTIMIZER_HOW = "float32 weights and AdamW's two moments, over the ranks"
CONTEXT_GB = 2.0
"""GB of the CUDA context, the NCCL channels and the library workspaces of one process."""
CUDA_GRAPHS_GB = 1.0
SLACK = 0.05
"""Share of the memory held by PyTorch's allocator that is unusable because of fragmentation."""


@dataclass(frozen=True, slots=True)
class Line:
    """One item of a budget. `how` is its formula in words."""

    name: str
    gb: float
    how: str


@dataclass(frozen=True, slots=True)
class RolloutBudget:
    """Memory budget of one GPU of a rollout replica. `held` is part of vLLM's share of the GPU; the rest of
    the share is KV cache. `outside` is used in addition to that share."""

    held: list[Line]
    outside: list[Line]
    utilization: float
    kv_bytes_per_token: float
    longest_tokens: int

    def kv_gb(self, gpu_gb: float) -> float:
        return self.utilization * gpu_gb - sum(line.gb for line in self.held)

    def sequences(self, gpu_gb: float) -> float:
        """Return how many sequences of maximum length fit into the KV cache at once."""
        return max(0.0, self.kv_gb(gpu_gb)) * 1e9 / (self.kv_bytes_per_token * self.longest_tokens)

    def fits(self, gpu_gb: float) -> bool:
        """Return True if vLLM can start, which needs room for one sequence of maximum length."""
        spare_gb = (1 - self.utilization) * gpu_gb
        return self.sequences(gpu_gb) >= 1 and sum(line.gb for line in self.outside) <= spare_gb


@dataclass(frozen=True, slots=True)
class LearnerBudget:
    """Memory budget of one GPU of a learner rank. `held` is always in use. `phases` follow one another, so
    only the largest counts. `beside` is the rollout replica on the same GPU, if the GPU is shared."""

    held: list[Line]
    phases: list[Line]
    beside: RolloutBudget | None = None

    @property
    def total_gb(self) -> float:
        in_allocator = sum(line.gb for line in self.held) + max(line.gb for line in self.phases)
        return in_allocator * (1 + SLACK) + CONTEXT_GB

    def room_gb(self, gpu_gb: float) -> float:
        """Return the GB of a GPU that the learner may use."""
        if self.beside is None:
            return gpu_gb
        return (1 - self.beside.utilization) * gpu_gb - sum(line.gb for line in self.beside.outside)

    def fits(self, gpu_gb: float) -> bool:
        return self.total_gb <= self.room_gb(gpu_gb)


def trained_parameters(learner: LearnerConfig, model: Architecture) -> int:
    """Return the number of parameters that an update changes: those of the adapters, or all that are not
    frozen.

    Raises ConfigError if a name in learner.lora.target_modules matches no layer.
    """
    if learner.lora is not None:
        return _adapter_parameters(learner, learner.lora, model)
    return model.parameters - (0 if learner.train_vision else model.vision.parameters)


def learner_budget(config: RunConfig, model: Architecture) -> LearnerBudget:
    """Compute the budget of one learner rank. A configuration for the CPU is treated as if it used GPUs."""
    learner = config.learner
    trained = trained_parameters(learner, model)
    total = model.parameters + (trained if learner.lora is not None else 0)
    shard = trained / learner.ranks
    held: list[Line] = []
    if learner.offload != "optimizer_and_parameters":
        held += _parameter_shards(learner, total)
    if learner.offload == "none":
        held += [
            Line("gradients", 4 * shard / 1e9, "4 bytes a trained parameter, over the ranks"),
            Line("optimizer", 12 * shard / 1e9, OPTIMIZER_HOW),
        ]
    gathered = min(LIVE_PARAMETERS, total)
    held += [
        Line("gathered parameters", 2 * gathered / 1e9, "DeepSpeed's, 2 bytes of 1e9 at most"),
        Line(
            "reduce bucket",
            (2 * REDUCE_BUCKET + 4 * min(REDUCE_BUCKET, trained)) / 1e9,
            "DeepSpeed's, 5e8 gradients, and those there are in float32",
        ),
    ]
    step = 8 * min(OPTIMIZER_SUB_GROUP, shard) / 1e9
    if adapter_serving(config, model) is not None:
        sending = Line("sending the adapter", 2 * 2 * trained / 1e9, "rank 0: the adapter and its copy")
    else:
        bucket = max(learner.bucket_mb * 2**20, _largest_weight_bytes(model))
        buffers = 2 * bucket + _transfer_buffers_bytes(config, model)
        sending = Line("sending weights", buffers / 1e9, "rank 0: bucket, its copy, 2 buffers")
    phases = [
        Line("activations", activations_gb(config, model), "of one micro-batch, the largest possible"),
        sending,
    ]
    if learner.offload == "none":
        phases.insert(1, Line("optimizer step", step, "gradient and temporary, 4 bytes each, of 1e9 at most"))
    return LearnerBudget(held, phases, beside=rollout_budget(config, model) if config.shares_gpu else None)


def host_lines(config: RunConfig, model: Architecture) -> list[Line]:
    """Return the host memory that `learner.offload` needs per rank; empty without offload. Buffers of
    gradients and parameters are pinned, and PyTorch rounds each pinned buffer up to a power of two of
    bytes."""
    learner = config.learner
    if learner.offload == "none":
        return []
    trained = trained_parameters(learner, model)
    shard = trained / learner.ranks
    total = model.parameters + (trained if learner.lora is not None else 0)
    whole, rest = divmod(shard, OPTIMIZER_SUB_GROUP)
    groups = whole * _pinned_gb(4 * OPTIMIZER_SUB_GROUP) + _pinned_gb(4 * rest)
    lines = [
        Line("gradients", _pinned_gb(4 * shard), "4 bytes a trained parameter, over the ranks, pinned"),
        Line("clipped gradients", groups, "as much again, pinned in groups of 1e9"),
        Line("optimizer", 12 * shard / 1e9, OPTIMIZER_HOW),
    ]
    if learner.offload == "optimizer_and_parameters":
        lines += [
            Line(line.name, _pinned_gb(line.gb * 1e9), f"{line.how}, pinned")
            for line in _parameter_shards(learner, total)
        ]
    return lines


def sent_weights_gb(config: RunConfig, model: Architecture) -> float:
    """Return the GB of rank 0's host memory for the weights that are sent over NCCL; 0 for other
    transports."""
    if config.device == "cpu" or config.shares_gpu or adapter_serving(config, model) is not None:
        return 0.0
    return 2 * model.parameters / 1e9


def checkpoint_copy_gb(config: RunConfig, model: Architecture) -> float:
    """Return the GB of each rank's host memory for its part of a background checkpoint."""
    if not config.checkpoint_in_background:
        return 0.0
    return 12 * trained_parameters(config.learner, model) / config.learner.ranks / 1e9


def _pinned_gb(size_bytes: float) -> float:
    return 2 ** math.ceil(math.log2(size_bytes)) / 1e9 if size_bytes >= 1 else 0.0


def _parameter_shards(learner: LearnerConfig, total: int) -> list[Line]:
    gb, how = 2 * total / learner.ranks / 1e9, "2 bytes a parameter, over the ranks"
    names = ["parameters"]
    if learner.kl_coefficient > 0 and learner.lora is None:
        names.append("reference policy")
    return [Line(name, gb, how) for name in names]


def activations_gb(config: RunConfig, model: Architecture) -> float:
    """Return the GB of activations of one micro-batch of `learner.micro_batch_tokens`, including vision tower
    and log-probs.

    With checkpointing every layer keeps its input, and one layer at a time keeps its inner tensors. Without
    checkpointing all layers keep them. Inner tensors count twice: as saved for the backward pass, and their
    gradients.
    """
    learner, text, vision = config.learner, model.text, model.vision
    prompt = _prompt_tokens(config, model)
    tokens = max(learner.micro_batch_tokens, prompt + config.rollout.max_completion_tokens)
    rows = max(1, tokens // prompt)
    images = rows * config.data.frames_per_video * config.data.frame_tokens.most_images
    patches = images * vision.patches(_longest_side_px(config))
    queries, keys = text.heads * text.head_dim, text.kv_heads * text.head_dim
    # Tensors of 2 bytes: two norms (a float32 copy counts twice) and two residuals; queries, keys and values,
    # rotated, and attention's output; gate, its activation, up, and their product; packed, the prompt's keys
    # and values once for each completion.
    packed = learner.attention == "sdpa" and learner.packing != "none"
    copies = 2 * config.schedule.completions_per_video * keys if packed else 0
    text_layer = 2 * tokens * (8 * text.hidden + 4 * queries + 4 * keys + 4 * text.mlp + copies)
    if learner.attention == "eager":
        row = prompt + config.rollout.max_completion_tokens
        text_layer += 6 * tokens * row * text.heads  # scores in bfloat16, their softmax in float32
    vision_layer = 2 * patches * (12 * vision.hidden + 2 * vision.mlp)
    text_inputs = 2 * tokens * text.hidden * (text.layers + 2)
    vision_inputs = 2 * patches * vision.hidden * vision.layers if learner.train_vision else 0
    logprobs = LOGIT_BYTES * learner.logprob_chunk_tokens * text.vocabulary
    if learner.gradient_checkpointing:
        kept = text_inputs + vision_inputs + max(2 * text_layer, 2 * vision_layer, logprobs)
    else:
        kept = text.layers * text_layer + vision.layers * vision_layer * learner.train_vision
        kept += max(text_layer, logprobs)
    return kept / 1e9


def rollout_budget(config: RunConfig, model: Architecture) -> RolloutBudget:
    """Compute the budget of each GPU of a rollout replica, whose tensors are split over
    `rollout.gpus_per_replica` GPUs."""
    rollout, text, vision = config.rollout, model.text, model.vision
    gpus = rollout.tensor_parallel_size
    step_tokens = max(rollout.max_batched_tokens, rollout.max_model_tokens)
    images = step_tokens // vision.tokens(_longest_side_px(config))
    patches = images * vision.patches(_longest_side_px(config))
    text_step = 2 * step_tokens * (6 * text.hidden + 3 * text.mlp / gpus)
    vision_step = 2 * patches * (8 * vision.hidden + 2 * vision.mlp / gpus)
    sampling = LOGIT_BYTES * rollout.max_concurrent_sequences * text.vocabulary
    serving = adapter_serving(config, model)
    if serving is not None:
        size = sum(_adapter_size(serving.reserved_rank, layer) for layer in text.linears)
        slots = f"{serving.slots} (schedule.max_staleness + 1) of rank {serving.reserved_rank}"
        adapters = [Line("adapters", 2 * serving.slots * size / 1e9, f"2 bytes a parameter, {slots}")]
        arriving: list[Line] = []
    else:
        buffers = _transfer_buffers_bytes(config, model) / 1e9
        how = "2 buffers of learner.bucket_mb, one with the largest weight"
        adapters, arriving = [], [Line("weight transfer", buffers, how)]
    return RolloutBudget(
        held=[
            Line("parameters", 2 * model.parameters / gpus / 1e9, "2 bytes a parameter, over the GPUs"),
            Line(
                "activations",
                max(text_step, vision_step, sampling) / 1e9,
                f"the largest of {step_tokens} tokens, their {images} images, and sampling",
            ),
            *adapters,
            Line("context", CONTEXT_GB, "CUDA context, NCCL, library workspaces"),
        ],
        outside=[Line("CUDA graphs", CUDA_GRAPHS_GB, "of the decoding batch sizes"), *arriving],
        utilization=rollout.gpu_memory_utilization,
        kv_bytes_per_token=text.kv_bytes_per_token / min(gpus, text.kv_heads),
        longest_tokens=rollout.max_model_tokens,
    )


def _largest_weight_bytes(model: Architecture) -> int:
    """Return the bytes of the embedding, as large as the output projection. Buckets never split a weight."""
    return 2 * model.text.vocabulary * model.text.hidden


def _transfer_buffers_bytes(config: RunConfig, model: Architecture) -> int:
    """Return the bytes of the two buffers of a broadcast. Each ends with the weight that fills it, and at
    most one of two consecutive buffers contains the largest weight."""
    return 2 * config.learner.bucket_mb * 2**20 + _largest_weight_bytes(model)


def learner_cure(config: RunConfig, model: Architecture, gpu_gb: float) -> str | None:
    """Return setting overrides with which a rank fits into `gpu_gb`, cheapest first; None if none are known.

    Overrides that use host memory are tried before overrides that use more GPUs.
    """
    learner = config.learner
    offloads = OFFLOADS[OFFLOADS.index(learner.offload) :]
    factors = (1,) if config.shares_gpu else (1, 2, 4, 8)
    for factor, offload in itertools.product(factors, offloads):
        for tokens in (learner.micro_batch_tokens // part for part in (1, 2, 4)):
            change: dict[str, Any] = {
                "ranks": learner.ranks * factor,
                "offload": offload,
                "micro_batch_tokens": tokens,
                "gradient_checkpointing": True,
            }
            changed = config.model_copy(update={"learner": learner.model_copy(update=change)})
            if learner_budget(changed, model).fits(gpu_gb):
                return _overrides("learner", change, learner.model_dump())
    return None


def rollout_cure(config: RunConfig, model: Architecture, gpu_gb: float) -> str | None:
    """Return setting overrides with which a replica fits into GPUs of `gpu_gb`; None if none are known.

    A replica on a shared GPU gets a larger share of it. Any other replica gets more GPUs.
    """
    rollout = config.rollout
    changes: list[dict[str, Any]] = [
        {"gpus_per_replica": n}
        for n in (1, 2, 4, 8)
        if n >= rollout.gpus_per_replica and model.text.heads % n == 0
    ]
    if config.shares_gpu:
        shares = [percent / 100 for percent in range(5, 95, 5)]
        changes = [{}, *({"gpu_memory_utilization": s} for s in shares if s > rollout.gpu_memory_utilization)]
    for change in changes:
        changed = config.model_copy(update={"rollout": rollout.model_copy(update=change)})
        if rollout_budget(changed, model).fits(gpu_gb):
            return _overrides("rollout", change, rollout.model_dump())
    return None


def _overrides(section: str, change: dict[str, Any], current: dict[str, Any]) -> str:
    return " ".join(f"--{section}.{key}={value}" for key, value in change.items() if value != current[key])


def _adapter_parameters(learner: LearnerConfig, lora: LoraConfig, model: Architecture) -> int:
    """Return the number of parameters in the matrices [rank, inputs] and [outputs, rank] of every layer that
    `lora` names."""
    layers = [*model.text.linears, *model.vision.projector_linears]
    layers += model.vision.linears if learner.train_vision else []
    known = {layer.name for layer in layers}
    if lora.target_modules == [LANGUAGE_MODEL]:
        return sum(_adapter_size(lora.rank, layer) for layer in model.text.linears)
    named = known if lora.target_modules == [ALL_LINEAR] else set(lora.target_modules)
    if odd := sorted(named - known):
        raise ConfigError(
            f"learner.lora.target_modules: the model has no linear layer '{odd[0]}' to train; it has "
            f"{', '.join(sorted(known))}; ['{ALL_LINEAR}'] takes them all, ['{LANGUAGE_MODEL}'] those of the "
            f"language model"
        )
    return sum(_adapter_size(lora.rank, layer) for layer in layers if layer.name in named)


def _adapter_size(rank: int, layer: Linear) -> int:
    return rank * (layer.inputs + layer.outputs) * layer.count


def _prompt_tokens(config: RunConfig, model: Architecture) -> int:
    image = model.vision.tokens(_longest_side_px(config))
    each = config.data.frame_tokens.most_images * image + FRAME_MARKER_TOKENS
    return config.data.frames_per_video * each + PROMPT_TEXT_TOKENS


def _longest_side_px(config: RunConfig) -> int:
    """Return the side of the largest square frame in the vision tower, for models that accept any frame
    size."""
    area = config.data.max_frame_px**2
    area = min(area, config.data.frame_max_pixels or area)
    return math.isqrt(max(area, config.data.frame_min_pixels or area))
