"""Settings for scoring videos with a model. Importable without torch, ray or vllm."""

import os
from typing import Any, Literal

from pydantic import Field, model_validator

from data.fetch_settings import FetchSettings
from data.model_view import ModelView
from rollout.config import RolloutConfig
from runtime.config import ClusterConfig
from runtime.errors import CommandFailed

_BATCH = 256
_FRAMES_IN_FLIGHT_BYTES = 2**29


def _videos_in_flight(settings: dict[str, Any]) -> int:
    video_bytes = settings["frames_per_video"] * settings["max_frame_px"] ** 2 * 3
    return max(8, min(2 * _BATCH, _FRAMES_IN_FLIGHT_BYTES // video_bytes))


def _decode_tasks() -> int:
    return max(1, min(4, len(os.sched_getaffinity(0)) - 1))


class ScoringFailed(CommandFailed):
    """No video can be scored: no engine starts, or none is left. The message gives the cause."""


class ScoringSettings(ModelView, FetchSettings):
    """How a video is presented to the model, and the engines to run; built by `models.scoring_settings`."""

    checkpoint: str
    """Folder of a Hugging Face checkpoint, or a hub name."""
    trust_remote_code: bool = False
    """Run Python code that comes with the checkpoint. Set it only if you have read that code."""
    decoder: Literal["auto", "decord", "pyav"] = "auto"
    """Video decoder. PyAV (auto) reads all formats of FFmpeg; decord refuses files it would misread."""
    strict: bool = False
    """Treat a truncated file as failed, as training does. Otherwise, score the part that can be decoded and
    record what is missing."""
    decode_timeout_s: float = Field(60.0, gt=0)
    """Deadline for decoding one video, after which it counts as failed."""
    decode_tasks: int = Field(default_factory=_decode_tasks, ge=1)
    """Videos decoded concurrently, per replica; default: one per core, with one core left for the engine, and
    at most 4. More decoders slow the engine down."""
    decode_cpus: float = Field(0.25, gt=0)
    """CPUs that Ray reserves for one decode task."""
    seed: int = Field(0, ge=0)
    """Seed of sampled answers, combined with the video's id. Greedy answers need no seed."""
    replicas: int | None = Field(None, ge=1)
    """Number of engines; default: one on a single machine; on a cluster, as many as its free GPUs allow."""
    gpus_per_replica: int | None = Field(None, ge=0)
    """GPUs per engine; default: 1 if Ray has GPUs, else 0 (the engine runs on the CPU)."""
    cpus_per_replica: float = Field(1.0, gt=0)
    """CPU cores per engine."""
    exact: bool = False
    """Make scores independent of batching, to the last bit; see `RolloutConfig.exact`."""
    kv_cache_mb: int = Field(256, ge=8)
    """Size of a CPU engine's KV cache, in MiB."""
    videos_in_flight: int = Field(default_factory=_videos_in_flight, ge=1)
    """Maximum number of videos being decoded or answered, per replica. Default: two batches of an engine, so
    that the next batch is ready when one ends, but at least 8 and at most half a gigabyte of frames."""
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
        """CPUs that `replicas` engines and their decoders reserve in Ray."""
        return replicas * (self.cpus_per_replica + self.decode_tasks * self.decode_cpus)

    def rollout(self, replicas: int, gpus_per_replica: int) -> RolloutConfig:
        """Convert to the settings of the engines."""
        return RolloutConfig(
            replicas=replicas,
            gpus_per_replica=gpus_per_replica,
            cpus_per_replica=self.cpus_per_replica,
            temperature=self.temperature,
            max_completion_tokens=self.max_completion_tokens,
            max_model_tokens=self.max_model_tokens,
            kv_cache_mb=self.kv_cache_mb,
            # Exact mode on the CPU runs one sequence at a time. With this limit, requests queue in the fleet,
            # which sets no deadline, instead of in the engine.
            max_concurrent_sequences=1 if self.exact and gpus_per_replica == 0 else _BATCH,
            exact=self.exact,
        )
