"""Settings of the sampling fleet. Importable without torch, ray or vllm."""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class RolloutConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    replicas: int = Field(2, ge=1)
    """Rollout workers, each with an engine of its own; scaled independently of the learner."""
    min_replicas: int | None = Field(None, ge=1)
    """Workers that have to be healthy before a run starts; the others join when they have started, and those
    that fail are started again, after pauses of 5 s to 10 minutes. Default: all of up to 4 replicas, and
    three quarters of more."""
    gpus_per_replica: float = Field(0.0, ge=0)
    """GPUs of one engine (tensor parallelism inside one node); 0 runs the engine on the CPU. A fraction
    shares a GPU with a learner rank: `gpu_memory_utilization` must leave that rank its room."""
    cpus_per_replica: float = Field(1.0, gt=0)
    """CPU cores that Ray reserves for one worker; on the CPU also the engine's threads."""
    label_selector: dict[str, str] = {}
    """Labels of the nodes that may run rollout workers, as Ray selects them: {"group": "rollout"},
    {"ray.io/accelerator-type": "in(A100,H100)"}; empty takes any node."""
    engine: Literal["auto", "in_process", "async"] = "auto"
    """`in_process` steps the engine inside the actor (small machines), `async` runs vLLM's AsyncLLM with
    its engine process; `auto` takes `async` on GPUs."""
    in_flight: Literal["auto", "keep", "finish", "abort"] = "auto"
    """What happens to generations in flight when new weights arrive. (When a new adapter arrives they end
    under theirs, whatever this says.) `keep`: they are prefilled again and continue under the new weights;
    each token's version is recorded. `finish`: the engine waits until they are done, and all engines wait for
    the slowest. `abort`: their groups start again. `auto`: `keep` with AsyncLLM, and `finish` with the
    in-process engine, which supports nothing else."""
    temperature: float = Field(1.0, gt=0)
    """Sampling temperature of training completions; the learner's logits are divided by it too."""
    max_completion_tokens: int = Field(2048, ge=1)
    """A completion longer than this is cut; it then does not parse and earns nothing."""
    max_model_tokens: int = Field(8192, ge=16)
    """Prompt and completion together at most, in tokens."""
    seeded_requests: bool = True
    """Give each completion a seed of its own. Off is faster on engines that draw seeded requests one by
    one, but then repeating a run does not repeat its samples."""
    exact: bool = False
    """Make an answer the same to the last bit, independent of the engine's other requests: on GPUs by vLLM's
    batch-invariant kernels (compute capability 9.0 or higher), on the CPU by one sequence at a time, each
    from its first token. Slower on both."""
    gpu_memory_utilization: float = Field(0.85, gt=0, le=1)
    """Share of a GPU's memory that an engine may take."""
    kv_cache_mb: int = Field(64, ge=8)
    """KV cache of a CPU engine, in MiB."""
    max_concurrent_sequences: int = Field(256, ge=1)
    """Sequences that an engine decodes at once."""
    max_batched_tokens: int = Field(8192, ge=256)
    """Prompt tokens that an engine takes in at one step."""
    start_timeout_s: float = Field(1800.0, gt=0)
    """Deadline of starting one worker: download and loading of the model, compilation and CUDA graphs. Eight
    workers of one node share its storage and CPUs meanwhile; a worker that dies is noticed at once."""
    group_timeout_s: float = Field(600.0, gt=0)
    """Deadline of sampling one video's groups; past it the worker counts as hung and is replaced."""
    sync_timeout_s: float = Field(300.0, gt=0)
    """Deadline of one worker's weight update."""
    max_retries: int = Field(3, ge=0)
    """Retries of one video's groups after a worker died, before the video counts as failed."""
    max_worker_restarts: int = Field(8, ge=0)
    """Replacements of failed workers within `restart_window_s`, before the run ends with an error. A start
    that fails counts too, but not while `min_replicas` workers are healthy."""
    restart_window_s: float = Field(3600.0, gt=0)
    """Seconds over which `max_worker_restarts` counts."""

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
        """How many of `replicas` workers have to be healthy for a run to start."""
        if self.min_replicas is not None:
            return min(self.min_replicas, replicas)
        return replicas if replicas <= 4 else math.ceil(0.75 * replicas)

    @property
    def tensor_parallel_size(self) -> int:
        """GPUs that an engine's tensors are cut over, and so its processes; 1 on the CPU."""
        return max(1, int(self.gpus_per_replica))
