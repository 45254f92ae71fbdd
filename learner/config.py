"""Settings of the update. Importable without torch or deepspeed."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

ALL_LINEAR = "all-linear"
LANGUAGE_MODEL = "language-model"


class LoraConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    rank: int = Field(16, ge=1)
    """Rank of the trained matrices; they have rank x (inputs + outputs) parameters a layer."""
    alpha: float = Field(32.0, gt=0)
    """What the adapters add is scaled by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the adapters' inputs dropped while training. The engines sample without, so that above 0
    the trained log-probs differ from theirs, which the importance weights then correct."""
    target_modules: list[str] = Field([LANGUAGE_MODEL], min_length=1)
    """Linear layers that get an adapter. ["language-model"]: those of the language model, the only ones whose
    adapters an engine can serve. ["all-linear"]: also those of vision tower and projector. Or last names such
    as ["q_proj", "v_proj"], wherever they are in the model. The output projection gets none, nor does a
    vision tower that `learner.train_vision` freezes."""
    send: Literal["adapter", "merged"] = "adapter"
    """What engines get after an update. `adapter`: the adapter, which they serve beside the base model; with
    a layer outside the language model among the targets, or a family whose adapters vLLM does not serve, the
    run sends merged weights and says so at its start. `merged`: the whole model with the adapter added."""

    @field_validator("target_modules")
    @classmethod
    def _all_or_some(cls, names: list[str]) -> list[str]:
        for whole in (ALL_LINEAR, LANGUAGE_MODEL):
            if whole in names and len(names) > 1:
                raise ValueError(f"'{whole}' stands for many linear layers: name it alone, or leave it out")
        return names


class LearnerConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    ranks: int = Field(2, ge=1)
    """DeepSpeed ZeRO-3 ranks."""
    gpus_per_rank: float = Field(0.0, ge=0, le=1)
    """1 on GPUs (NCCL, bf16), 0 on the CPU (gloo, float32). A fraction shares one GPU with a rollout
    replica, for a single rank; weights then go through the object store."""
    cpus_per_rank: float = Field(1.0, gt=0)
    """CPU cores that Ray reserves for one rank; on the CPU and with `offload` also the rank's threads."""
    label_selector: dict[str, str] = {}
    """Labels of the nodes that may run learner ranks, as Ray selects them: {"group": "learner"}; empty
    takes any node."""
    lr: float = Field(1e-6, gt=0)
    """Peak learning rate of AdamW."""
    min_lr_ratio: float = Field(0.1, ge=0, le=1)
    """The cosine schedule ends at this share of the peak."""
    warmup_updates: int = Field(5, ge=0)
    """Updates of linear warm-up."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates."""
    eps: float = Field(1e-8, gt=0)
    """AdamW's epsilon."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's decoupled weight decay."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this global norm."""
    kl_coefficient: float = Field(0.04, ge=0)
    """Weight of the k3 KL term to the frozen base; 0 loads no reference policy."""
    clip_low: float = Field(0.2, gt=0, lt=1)
    """The ratio is clipped below at 1 - this."""
    clip_high: float = Field(0.2, gt=0)
    """The ratio is clipped above at 1 + this (clip-higher: larger than `clip_low`)."""
    importance_cap: float = Field(2.0, gt=0)
    """Cap C of the truncated importance weight min(exp(old - engine), C)."""
    loss_mean: Literal["sequence", "token"] = "sequence"
    """`sequence`: mean over completions of the mean over their tokens (the paper's); `token`: mean over
    all tokens of the update."""
    advantage_scale: Literal["group_std", "constant"] = "group_std"
    """Advantages are divided by the group's standard deviation (the paper's) or by a constant, which
    keeps groups with little spread from being amplified."""
    advantage_constant: float = Field(0.5, gt=0)
    """The divisor of `advantage_scale = "constant"`."""
    advantage_eps: float = Field(1e-4, gt=0)
    """Added to the group's standard deviation before dividing."""
    optimizer_steps_per_update: int = Field(1, ge=1)
    """Passes over an update's groups; the ratio leaves 1 from the second on."""
    early_reference: bool = False
    """While the learner waits for cohorts, compute the KL term's reference log-probs of those that are
    scored, which the update then need not. Rounding depends on what else is in a forward pass, and so on
    timing then. Ignored with `rollout.exact`, and where learner and engine share a GPU."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """Attention of the model. Packed groups need `sdpa`; the others switch packing off."""
    packing: Literal["auto", "group", "none"] = "auto"
    """`group` encodes a video's prompt and frames once for its G completions; `auto` does so where the
    model family allows it."""
    micro_batch_tokens: int = Field(16384, ge=64)
    """Token budget of one forward pass; a group larger than this is split (unpacked) or goes alone."""
    logprob_chunk_tokens: int = Field(1024, ge=1)
    """Positions whose logits are materialised at once."""
    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass."""
    train_vision: bool = True
    """Train the vision tower too, as the paper does."""
    lora: LoraConfig | None = None
    """Train low-rank adapters (`learner.lora.rank` and so on) and leave the model itself as it is; None
    trains the model. Engines get the adapters (`learner.lora.send`), exports the merged model and the
    adapters; the KL term's reference is the model with its adapters off."""
    offload: Literal["none", "optimizer", "optimizer_and_parameters"] = "none"
    """What lies in host memory instead of the GPU's: `optimizer` gradients, master weights and AdamW's
    moments, where AdamW then steps on `cpus_per_rank` threads; `optimizer_and_parameters` also the shards of
    the parameters, the reference's too, which are copied to the GPU at each use. Slower, for GPUs that are
    too small. On the CPU it saves nothing."""
    max_skipped_updates: int = Field(5, ge=1)
    """Updates in a row whose loss or gradient is not finite (each is skipped) before the run ends."""
    max_restarts: int = Field(3, ge=0)
    """Restarts of all ranks from the last checkpoint after one of them failed, before the run ends."""
    collective_timeout_s: float = Field(600.0, gt=0)
    """Deadline of a collective among ranks."""
    start_timeout_s: float = Field(900.0, gt=0)
    """Deadline of starting all ranks, model loading included."""
    update_timeout_s: float = Field(1800.0, gt=0)
    """Deadline of one update."""
    bucket_mb: int = Field(256, ge=1)
    """Size of the buckets in which weights are gathered, sent and saved."""

    @model_validator(mode="after")
    def _one_rank_a_gpu(self) -> "LearnerConfig":
        if 0 < self.gpus_per_rank < 1 and self.ranks > 1:
            raise ValueError(
                f"gpus_per_rank {self.gpus_per_rank:g} shares a GPU, and NCCL takes no two ranks on one: set "
                "ranks to 1, or gpus_per_rank to 1"
            )
        return self
