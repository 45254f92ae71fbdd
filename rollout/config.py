"""Settings of the sampling fleet. Importable without torch, ray or vllm."""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class RolloutConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    replicas: int = Field(2, ge=1)
    """Number of rollout workers. Each has its own engine. Independent of the number of learner ranks."""
    min_replicas: int | None = Field(None, ge=1)
    """Number of workers that must be healthy before a run starts. The others join when they have started.
    Those that fail are restarted after pauses of 5 s to 10 minutes. Default: all workers if `replicas` is 4
    or less, otherwise three quarters of them."""
    gpus_per_replica: float = Field(0.0, ge=0)
    """Number of GPUs per engine (tensor parallelism inside one node). 0 runs the engine on the CPU. A
    fraction shares a GPU with a learner rank: set `gpu_memory_utilization` low enough for both to fit."""
    cpus_per_replica: float = Field(1.0, gt=0)
    """CPU cores that Ray reserves per worker. Also the number of threads of an engine that runs on the
    CPU."""
    label_selector: dict[str, str] = {}
    """Ray label selector of the nodes that may run rollout workers, for example {"group": "rollout"} or
    {"ray.io/accelerator-type": "in(A100,H100)"}. Empty allows any node."""
    engine: Literal["auto", "in_process", "async"] = "auto"
    """`in_process` steps vLLM's engine inside the actor (small machines). `async` runs vLLM's AsyncLLM with
    its own engine process. `auto` selects `async` on GPUs and `in_process` on the CPU."""
    in_flight: Literal["auto", "keep", "finish", "abort"] = "auto"
    """How to treat generations in flight when new weights arrive. (A new adapter never affects them: they
    finish under the adapter at which they began.) `keep`: they are prefilled again and continue under the new
    weights; each token's version is recorded. `finish`: the engine waits until they are done, and all engines
    wait for the slowest. `abort`: their groups are sampled again from the start. `auto`: `keep` with
    AsyncLLM, `finish` with the in-process engine, which supports only that."""
    temperature: float = Field(1.0, gt=0)
    """Sampling temperature of training completions. The learner divides its logits by it too."""
    max_completion_tokens: int = Field(2048, ge=1)
    """Maximum length of a completion. A longer one is truncated, so it does not parse and gets no reward."""
    max_model_tokens: int = Field(8192, ge=16)
    """Maximum length of prompt and completion together, in tokens."""
    seeded_requests: bool = True
    """Give each completion its own seed. Turning this off is faster on engines that sample seeded requests
    one by one, but a repeated run then draws other samples."""
    exact: bool = False
    """Make completions bit-identical, whatever other requests the engine runs. On GPUs this uses vLLM's
    batch-invariant kernels (compute capability 9.0 or higher). On the CPU it decodes one sequence at a time,
    without prefix caching. Slower on both."""
    gpu_memory_utilization: float = Field(0.85, gt=0, le=1)
    """Fraction of a GPU's memory that an engine may use."""
    kv_cache_mb: int = Field(64, ge=8)
    """Size of the KV cache of an engine on the CPU, in MiB."""
    max_concurrent_sequences: int = Field(256, ge=1)
    """Maximum number of sequences that an engine decodes at once."""
    max_batched_tokens: int = Field(8192, ge=256)
    """Maximum number of tokens that an engine processes in one step; limits the prefill."""
    start_timeout_s: float = Field(1800.0, gt=0)
    """Deadline for starting one worker: downloading and loading the model, compiling, and capturing CUDA
    graphs. All workers of a node share its storage and CPUs meanwhile. A worker that dies is detected at
    once, without waiting for this deadline."""
    group_timeout_s: float = Field(600.0, gt=0)
    """Deadline for sampling one video's groups. A worker that misses it counts as hung and is replaced."""
    sync_timeout_s: float = Field(300.0, gt=0)
    """Deadline for one worker's weight update."""
    max_retries: int = Field(3, ge=0)
    """How often one video's groups are retried after their worker died. Then the video counts as failed."""
    max_worker_restarts: int = Field(8, ge=0)
    """How many failed workers may be replaced within `restart_window_s`. One more ends the run with an error.
    A failed start also counts, except while `min_replicas` workers are healthy."""
    restart_window_s: float = Field(3600.0, gt=0)
    """Length of the sliding window in which restarts are counted for `max_worker_restarts`."""

    @field_validator("gpus_per_replica")
    @classmethod
    def _part_of_one_or_whole(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"{gpus:g} is neither a fraction of one GPU nor a whole number of them")
        return gpus

    @model_validator(mode="after")
    def _no_more_are_needed_than_there_are(self) -> "RolloutConfig":
        if self.min_replicas is not None and self.min_replicas > self.replicas:
            raise ValueError(
                f"rollout.min_replicas ({self.min_replicas}) is above rollout.replicas ({self.replicas}): "
                f"lower it, or leave it out"
            )
        return self

    def enough_replicas(self, replicas: int) -> int:
        """Return how many of `replicas` workers must be healthy before a run starts."""
        if self.min_replicas is not None:
            return min(self.min_replicas, replicas)
        return replicas if replicas <= 4 else math.ceil(0.75 * replicas)

    @property
    def tensor_parallel_size(self) -> int:
        """Number of tensor-parallel GPUs per engine, which is also its number of processes; 1 on the CPU."""
        return max(1, int(self.gpus_per_replica))
