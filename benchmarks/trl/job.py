"""One training job, as settings of both systems. Importable without torch, ray or TRL."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

LR = 1e-6
"""Small enough for the model to stay as random as it is."""
KL_COEFFICIENT = 0.04


@dataclass(frozen=True, slots=True)
class Job:
    """What both systems train on: `videos` clips an update, each with `completions` answers (G) of exactly
    `completion_tokens` tokens, `updates` times."""

    model: str
    manifest: str
    n_frames: int
    frame_px: int
    videos: int
    completions: int
    completion_tokens: int
    max_model_tokens: int
    updates: int
    device: Literal["cpu", "cuda"] = "cpu"

    @property
    def completions_per_update(self) -> int:
        return self.videos * self.completions

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def write_clips(job: Job) -> None:
    """The clips of the job and their manifest. A run of ours asks for one more, to judge."""
    from benchmarks.small_model import random_frames
    from data.lossless import write_lossless

    folder = Path(job.manifest).parent
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["path,mos,split"]
    for number in range(job.videos + 1):
        path = folder / f"clip{number}.mp4"
        write_lossless(path, random_frames(job.n_frames, np.random.default_rng(number), job.frame_px))
        lines.append(f"{path.name},{1 + number % 5},{'test' if number == job.videos else 'train'}")
    Path(job.manifest).write_text("\n".join(lines) + "\n")


def our_settings(job: Job, run: Path, cores: int) -> list[str]:
    """Overrides of the defaults for `launch.py train`: an engine and a learner rank for each core, or one of
    each on a GPU, which take turns on it, strictly on-policy."""
    pairs = cores if job.device == "cpu" else 1
    on_gpu = [
        "--learner.gpus_per_rank=0.5",
        "--rollout.gpus_per_replica=0.5",
        "--rollout.gpu_memory_utilization=0.4",
    ]
    return [
        *(on_gpu if job.device == "cuda" else []),
        f"--run_dir={run}",
        "--name=versus-trl",
        f"--model.path={job.model}",
        f"--data.manifest={job.manifest}",
        f"--data.frames_per_video={job.n_frames}",
        f"--data.max_frame_px={job.frame_px}",
        f"--schedule.videos_per_cohort={job.videos}",
        f"--schedule.completions_per_video={job.completions}",
        f"--schedule.updates={job.updates}",
        f"--schedule.epochs={job.updates}",
        f"--rollout.replicas={pairs}",
        f"--rollout.max_completion_tokens={job.completion_tokens}",
        f"--rollout.max_model_tokens={job.max_model_tokens}",
        # The peer's rewards: its trainer samples no second copy of a video.
        "--rewards.temporal_weight=0",
        f"--learner.ranks={pairs}",
        f"--learner.lr={LR}",
        f"--learner.kl_coefficient={KL_COEFFICIENT}",
        "--learner.gradient_checkpointing=false",
        "--evaluation.every_updates=0",
        "--evaluation.max_completion_tokens=8",
        "--evaluation.bootstrap_samples=100",
        "--checkpoint.every_updates=0",
        "--cluster.object_store_mb=600",
        "--metrics.tensorboard=false",
        "--metrics.trace=true",
    ]


def peer_settings(job: Job, out: Path, batch: int, bf16: bool, suppressed: list[int]) -> dict[str, Any]:
    """Arguments of `GRPOConfig`.

    Args:
        batch: completions of one forward and backward pass; their number an update is a multiple of it.
        bf16: compute in bfloat16 under autocast.
        suppressed: token ids that are never sampled.
    """
    if job.completions_per_update % batch:
        raise ValueError(f"{job.completions_per_update} completions an update are no multiple of {batch}")
    return {
        "output_dir": str(out),
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": job.completions_per_update // batch,
        "num_generations": job.completions,
        "max_completion_length": job.completion_tokens,
        "temperature": 1.0,
        "generation_kwargs": {"suppress_tokens": suppressed},
        "beta": KL_COEFFICIENT,
        "learning_rate": LR,
        "max_steps": job.updates,
        "gradient_checkpointing": False,
        "bf16": bf16,
        "use_cpu": job.device == "cpu",
        "shuffle_dataset": False,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": [],
    }
