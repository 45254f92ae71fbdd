"""Settings of scoring videos. Importable without torch, ray or vllm."""

import os
from typing import Any, Literal

from pydantic import Field, model_validator

from data.model_view import ModelView
from rollout.config import RolloutConfig
from runtime.config import ClusterConfig

_BATCH = 256
_FRAMES_IN_FLIGHT_BYTES = 2**29


def _videos_in_flight(settings: dict[str, Any]) -> int:
    video_bytes = settings["frames_per_video"] * settings["max_frame_px"] ** 2 * 3
    return max(8, min(2 * _BATCH, _FRAMES_IN_FLIGHT_BYTES // video_bytes))


def _decode_tasks() -> int:
    return max(1, min(4, len(os.sched_getaffinity(0)) - 1))


class ScoringFailed(RuntimeError):
    """No video can be scored; says why."""


class ScoringSettings(ModelView):
    """A model's view of a video, and what it takes to ask it. `models.scoring_settings` makes one."""

    checkpoint: str
    """Folder of a Hugging Face checkpoint, or a name on the hub."""
    trust_remote_code: bool = False
    """Run Python code that comes with the checkpoint. Leave it off unless you have read that code."""
    decoder: Literal["auto", "decord", "pyav"] = "auto"
    """Reads the files: decord, PyAV, or decord for what it reads right and PyAV for all else."""
    decode_timeout_s: float = Field(60.0, gt=0)
    """Deadline of decoding one video; past it the video counts as failed."""
    decode_tasks: int = Field(default_factory=_decode_tasks, ge=1)
    """Videos decoded at once, for each replica; default: one for each core of this machine but one, which is
    the engine's, and 4 at most. More than that take the engine's turns away."""
    decode_cpus: float = Field(0.25, gt=0)
    """CPUs that Ray reserves for one decode task."""
    seed: int = Field(0, ge=0)
    """Seeds sampled answers, together with the video's id: the greedy answer needs none."""
    replicas: int | None = Field(None, ge=1)
    """Engines side by side; default: one on this machine, and on a cluster as many as its free GPUs allow."""
    gpus_per_replica: int | None = Field(None, ge=0)
    """GPUs of one engine; default: 1 where there are GPUs, else 0 (an engine on the CPU)."""
    cpus_per_replica: float = Field(1.0, gt=0)
    """CPU cores of one engine."""
    exact: bool = False
    """A score is the same to the last bit whatever else is scored with it; see `RolloutConfig.exact`."""
    kv_cache_mb: int = Field(256, ge=8)
    """KV cache of a CPU engine, in MiB."""
    videos_in_flight: int = Field(default_factory=_videos_in_flight, ge=1)
    """Videos decoded or asked about at once, for each replica; default: an engine's batch and as many again,
    as a batch's answers end together and the next has to be there then, as long as their frames take no
    more than half a gigabyte."""
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _answer_fits(self) -> "ScoringSettings":
        if self.max_completion_tokens >= self.max_model_tokens:
            raise ValueError(
                f"max_completion_tokens ({self.max_completion_tokens}) leaves no room for a prompt in "
                f"max_model_tokens ({self.max_model_tokens})"
            )
        return self

    def cpus(self, replicas: int) -> float:
        """CPUs that `replicas` engines and their decoders ask of Ray."""
        return replicas * (self.cpus_per_replica + self.decode_tasks * self.decode_cpus)

    def rollout(self, replicas: int, gpus_per_replica: int) -> RolloutConfig:
        """The engines' settings."""
        return RolloutConfig(
            replicas=replicas,
            gpus_per_replica=gpus_per_replica,
            cpus_per_replica=self.cpus_per_replica,
            temperature=self.temperature,
            max_completion_tokens=self.max_completion_tokens,
            max_model_tokens=self.max_model_tokens,
            kv_cache_mb=self.kv_cache_mb,
            # What runs alone on the CPU waits at the fleet, where no deadline runs, and not at the engine.
            max_concurrent_sequences=1 if self.exact and gpus_per_replica == 0 else _BATCH,
            exact=self.exact,
        )
