"""Settings of the update. Importable without torch or deepspeed."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

ALL_LINEAR = "all-linear"
LANGUAGE_MODEL = "language-model"


class LoraConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    rank: int = Field(16, ge=1)
    """Rank of the trained matrices, which have rank x (inputs + outputs) parameters per layer."""
    alpha: float = Field(32.0, gt=0)
    """The adapters' output is scaled by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout probability of the adapters' inputs in training. The engines sample without dropout, so a value
    above 0 makes the learner's log-probs differ from the engines'. The importance weights correct for
    that."""
    target_modules: list[str] = Field([LANGUAGE_MODEL], min_length=1)
    """Linear layers that get an adapter. ["language-model"]: all of the language model; engines can serve
    adapters of these layers only. ["all-linear"]: also those of the vision tower and the projector. Otherwise
    the last part of module names, such as ["q_proj", "v_proj"], which matches anywhere in the model. The
    output projection never gets an adapter. Neither does the vision tower if `learner.train_vision` is
    false."""
    send: Literal["adapter", "merged"] = "adapter"
    """What to send to the engines after an update. `adapter`: only the adapter, which engines serve on top of
    the base model. If `target_modules` includes layers outside the language model, or if vLLM serves no
    adapters of the model family, the run sends merged weights instead and reports that at its start.
    `merged`: the whole model with the adapter merged in."""

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
    """Number of DeepSpeed ZeRO-3 ranks."""
    gpus_per_rank: float = Field(0.0, ge=0, le=1)
    """Number of GPUs per rank: 1 on GPUs (NCCL, bf16), 0 on the CPU (gloo, float32). A fraction lets a single
    rank share its GPU with a rollout replica; weights are then sent through the object store."""
    cpus_per_rank: float = Field(1.0, gt=0)
    """CPU cores that Ray reserves per rank. On the CPU, and with `offload`, also the rank's number of
    threads."""
    label_selector: dict[str, str] = {}
    """Ray label selector of the nodes that may run learner ranks, for example {"group": "learner"}. Empty
    allows any node."""
    lr: float = Field(1e-6, gt=0)
    """Peak learning rate of AdamW."""
    min_lr_ratio: float = Field(0.1, ge=0, le=1)
    """Final learning rate of the cosine schedule, as a fraction of the peak."""
    warmup_updates: int = Field(5, ge=0)
    """Number of updates of linear warm-up."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates of the two moments."""
    eps: float = Field(1e-8, gt=0)
    """AdamW's epsilon."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's decoupled weight decay."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Maximum global norm of the gradient; a larger gradient is clipped to it."""
    kl_coefficient: float = Field(0.04, ge=0)
    """Weight of the k3 KL term towards the frozen base model. With 0 no reference policy is loaded."""
    clip_low: float = Field(0.2, gt=0, lt=1)
    """Lower clipping bound of the ratio: 1 - `clip_low`."""
    clip_high: float = Field(0.2, gt=0)
    """Upper clipping bound of the ratio: 1 + `clip_high` (clip-higher: larger than `clip_low`)."""
    importance_cap: float = Field(2.0, gt=0)
    """Cap C of the truncated importance weight min(exp(old - engine), C)."""
    loss_mean: Literal["sequence", "token"] = "sequence"
    """`sequence`: the mean over completions of each one's mean over tokens, as in the paper. `token`: the
    mean over all tokens of the update."""
    advantage_scale: Literal["group_std", "constant"] = "group_std"
    """Divisor of the advantages: the group's standard deviation, as in the paper, or a constant. A constant
    does not amplify groups whose rewards differ little."""
    advantage_constant: float = Field(0.5, gt=0)
    """The divisor used with `advantage_scale = "constant"`."""
    advantage_eps: float = Field(1e-4, gt=0)
    """Added to the group's standard deviation before dividing."""
    optimizer_steps_per_update: int = Field(1, ge=1)
    """Number of optimizer steps on an update's groups, each over all of them. The ratio differs from 1 only
    from the second step on."""
    early_reference: bool = False
    """While the learner waits for cohorts, compute the KL term's reference log-probs of cohorts that are
    already scored, so that the update need not. Their rounding then depends on the other groups in the
    forward pass, and so on timing. Ignored with `rollout.exact`, and if learner and engine share a GPU."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """Attention implementation of the model. Packing needs `sdpa`; the other values disable it."""
    packing: Literal["auto", "group", "none"] = "auto"
    """`group` computes a video's prompt and frames once for its G completions. `auto` does the same if the
    model family allows it."""
    micro_batch_tokens: int = Field(16384, ge=64)
    """Token budget of one forward pass. A larger group is split into pieces within the budget; a single
    longer completion gets a pass of its own."""
    logprob_chunk_tokens: int = Field(1024, ge=1)
    """Number of positions whose logits are in memory at once."""
    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass."""
    train_vision: bool = True
    """Train the vision tower too, as the paper does."""
    lora: LoraConfig | None = None
    """Train low-rank adapters (`learner.lora.rank` and so on) and freeze the model; None trains the model
    itself. `learner.lora.send` selects what the engines get. Exports contain the merged model and the
    adapter. The reference of the KL term is the model with its adapters disabled."""
    offload: Literal["none", "optimizer", "optimizer_and_parameters"] = "none"
    """What to keep in host memory instead of GPU memory. `optimizer`: gradients, master weights and AdamW's
    moments; AdamW then runs on the CPU with `cpus_per_rank` threads. `optimizer_and_parameters`: also the
    parameter shards of the policy and the reference, which are copied to the GPU at each use. Slower; for
    GPUs with too little memory. It saves nothing if the learner runs on the CPU."""
    max_skipped_updates: int = Field(5, ge=1)
    """Number of consecutive updates skipped because of a non-finite loss or gradient after which the run
    ends."""
    max_restarts: int = Field(3, ge=0)
    """How often all ranks may be restarted from the last checkpoint after a rank failed. One more failure
    ends the run."""
    collective_timeout_s: float = Field(600.0, gt=0)
    """Deadline for a collective among ranks."""
    start_timeout_s: float = Field(900.0, gt=0)
    """Deadline for starting all ranks, including model loading."""
    update_timeout_s: float = Field(1800.0, gt=0)
    """Deadline for one update."""
    bucket_mb: int = Field(256, ge=1)
    """Size in MiB of the buckets in which weights are gathered, sent and saved."""

    @model_validator(mode="after")
    def _one_rank_a_gpu(self) -> "LearnerConfig":
        if 0 < self.gpus_per_rank < 1 and self.ranks > 1:
            raise ValueError(
                f"gpus_per_rank {self.gpus_per_rank:g} shares a GPU, and NCCL takes no two ranks on one: set "
                "ranks to 1, or gpus_per_rank to 1"
            )
        return self
