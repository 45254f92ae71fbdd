"""All checks of a job that need no actor."""

import importlib.util
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import ray

from cluster.config import DerivedSizes, RunConfig, derive_sizes
from cluster.nccl_log import nccl_log_environment
from cluster.placement_plan import PlacementPlan, demands, describe_nodes, plan_placement
from cluster.planning.adapters import adapter_serving
from cluster.planning.architecture import known_architecture
from cluster.planning.memory import trained_parameters
from data.hub import commit_of, model_folder
from data.manifest import read_manifest
from data.records import Video
from data.sampler import CohortSampler
from data.urls import Location
from evaluation.models import fingerprint
from monitoring.config import check_wandb
from monitoring.run_dir import RunDirectory
from rewards.registry import check_custom
from rewards.reward import RewardError
from rollout.adapters import AdapterServing
from runtime.errors import ConfigError
from runtime.killable import run_isolated
from runtime.session import in_submitted_job

MODEL_CHECK_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Job:
    """A configuration with its inputs, read and checked."""

    config: RunConfig
    train: list[Video]
    evaluation: dict[str, list[Video]]
    sampler: CohortSampler
    sizes: DerivedSizes
    adapters: AdapterServing | None = None
    """Settings for serving adapters; None if engines get the weights of the whole model."""

    @property
    def video_counts(self) -> dict[str, int]:
        """The videos of each split that the run trains on or evaluates."""
        evaluated = {split: len(videos) for split, videos in self.evaluation.items()}
        return {self.config.data.train_split: len(self.train)} | evaluated


def resolve_paths(config: RunConfig, default_run_dir: Path) -> RunConfig:
    """Return the configuration with absolute paths, so that it is valid in every process.

    Raises ConfigError for a relative run directory in a submitted job, because the job's working directory is
    a temporary copy that is deleted afterwards.
    """
    run_dir = config.run_dir or default_run_dir
    if in_submitted_job() and not run_dir.is_absolute():
        raise ConfigError(
            f"run_dir '{run_dir}' is relative, and a submitted job's working directory is temporary: "
            f"give --run_dir an absolute path on storage that all nodes see"
        )

    def absolute(where: Location | None) -> Location | None:
        return where.expanduser().absolute() if isinstance(where, Path) else where

    data = config.data.model_copy(
        update={
            "manifest": config.data.manifest.expanduser().absolute(),
            "root": absolute(config.data.root),
            "cache_dir": absolute(config.data.cache_dir),
        }
    )
    model_path = Path(config.model.path).expanduser()
    model = config.model.model_copy(
        update={"path": str(model_path.absolute()) if model_path.exists() else config.model.path}
    )
    try:
        rewards = config.rewards.with_custom_texts()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"rewards.custom: {error}; give the path of a Python file in UTF-8") from None
    return config.model_copy(
        update={
            "run_dir": run_dir.expanduser().absolute(),
            "data": data,
            "model": model,
            "rewards": rewards,
        }
    )


def read_job(config: RunConfig) -> Job:
    """Read and check the files that the run needs. Raises ConfigError or ManifestError."""
    _check_model(config)
    adapters = None
    if config.learner.lora is not None:
        model = known_architecture(config.model.path)
        if model is not None:  # otherwise the learner checks it after loading the model
            trained_parameters(config.learner, model)
        adapters = adapter_serving(config, model)
    try:
        check_custom(config.rewards)
    except RewardError as error:
        raise ConfigError(f"rewards.custom: {error}") from None
    check_wandb(config.metrics)
    _check_attention(config)
    if config.device == "cuda" and config.run_dir is not None:
        nccl_log_environment(RunDirectory(config.run_dir).nccl)
    videos = read_manifest(config.data.manifest, config.data.root)
    by_split: dict[str, list[Video]] = {}
    for video in videos:
        by_split.setdefault(video.split, []).append(video)
    for field, split in [
        ("data.train_split", config.data.train_split),
        *(("evaluation.splits", s) for s in config.evaluation.splits),
    ]:
        if split not in by_split:
            raise ConfigError(
                f"{config.data.manifest}: no row has split '{split}' ({field}); it has {', '.join(by_split)}"
            )
    train = by_split[config.data.train_split]
    sampler = CohortSampler(
        train,
        config.schedule.videos_per_cohort,
        config.seed,
        config.data.frames_per_video,
        temporal=config.temporal,
    )
    return Job(
        config=config,
        train=train,
        evaluation={split: by_split[split] for split in config.evaluation.splits},
        sampler=sampler,
        sizes=derive_sizes(config, len(train), sampler.cohorts_per_epoch),
        adapters=adapters,
    )


def pin_model(config: RunConfig) -> RunConfig:
    """The configuration with the commit of a hub name as `model.revision`; downloads it here if it is not in
    the hub's cache. Raises ConfigError."""
    model = config.model
    try:
        commit = commit_of(model_folder(model.path, model.revision))
    except (OSError, ValueError) as error:
        wanted = model.path + (f" at {model.revision}" if model.revision else "")
        raise ConfigError(
            f"model.path: {wanted} cannot be downloaded from the hub: {str(error).strip()}; check the name, "
            f"the network, and HF_TOKEN for a gated model, or give a folder"
        ) from None
    if commit is None:
        return config
    return config.model_copy(update={"model": model.model_copy(update={"revision": commit})})


def check_model(config: RunConfig) -> None:
    """Load the model's processor and configuration in a separate process that ends afterwards.

    Raises ConfigError if they cannot be used as configured.
    """
    job = {
        "model_path": model_folder(config.model.path, config.model.revision),
        "trust_remote_code": config.model.trust_remote_code,
        "frame_tokens": config.data.frame_tokens.model_dump(),
        "max_model_tokens": config.rollout.max_model_tokens,
    }
    (outcome,) = run_isolated("data.model_check", [job], processes=1, timeout_s=MODEL_CHECK_TIMEOUT_S)
    if outcome.failure:
        raise ConfigError(outcome.failure)


def check_run_dir(run: RunDirectory, resume: bool) -> None:
    """Raise ConfigError unless the run directory is writable and is new or holds a run to resume."""
    existing = run.path
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ConfigError(f"{run.path}: cannot write to {existing}; give another --run_dir")
    has_run = (run.path / "run.json").exists()
    if resume and not has_run:
        raise ConfigError(f"{run.path} holds no run to resume; leave --resume out to start one")
    if has_run and not resume:
        raise ConfigError(f"{run.path} already holds a run: add --resume, or name another --run_dir")


def check_base_model(run: RunDirectory, model_path: str, revision: str | None = None) -> None:
    """Raise ConfigError if the run to resume was started from other weights than those at `model_path`, or
    from another commit than `revision`.

    If the run recorded no hash of its base model or no commit, that check is skipped.
    """
    commit = run.state().get("model_revision")
    if commit is not None and commit != revision:
        raise ConfigError(
            f"model.revision: {run.path} was started from commit {commit} of {model_path}, not from "
            f"{revision}: leave --model.revision out to resume it"
        )
    recorded = run.state().get("model_hash")
    if recorded is not None and recorded != fingerprint(model_path):
        raise ConfigError(
            f"model.path: {model_path} does not hold the weights that {run.path} was started from (run.json "
            f"has their hash): resume with those, or start a new run"
        )


def fit_decoding(job: Job) -> Job:
    """Return the job with numbers of decode tasks and prefetched videos that fit the cluster, and with the
    sizes derived from them."""
    config = job.config
    growing = config.cluster.autoscaling
    config = config.with_decoding_on(math.inf if growing else ray.cluster_resources().get("CPU", 0.0))
    sizes = derive_sizes(config, len(job.train), job.sampler.cohorts_per_epoch)
    return replace(job, config=config, sizes=sizes)


def check_resources(sizes: DerivedSizes, config: RunConfig) -> PlacementPlan:
    """Check that the cluster has the resources that the run needs; returns the predicted placement.

    Raises ConfigError with the required and available numbers, unless the cluster may still add nodes
    (cluster.autoscaling).
    """
    plan = plan_placement(describe_nodes(ray.nodes()), *demands(config))
    if config.cluster.autoscaling:
        return plan
    have = ray.cluster_resources()
    gpus, cpus = int(have.get("GPU", 0)), have.get("CPU", 0.0)
    needed = sizes.learner_gpus + sizes.rollout_gpus
    if needed > gpus:
        raise ConfigError(
            f"needs {sizes.learner_gpus:g} GPUs for the learner (learner.ranks) and "
            f"{config.rollout.replicas} x {config.rollout.gpus_per_replica:g} for rollout "
            f"(rollout.replicas x rollout.gpus_per_replica), {needed:g} in all; the cluster has {gpus}. "
            f"Lower them, or add nodes"
        )
    if sizes.cpus > cpus:
        raise ConfigError(
            f"needs {sizes.cpus:g} CPUs (learner.cpus_per_rank, rollout.cpus_per_replica, "
            f"rewards.cpus_per_actor), the cluster has {cpus:g}. Lower them, or add nodes"
        )
    if plan.missing:
        raise ConfigError("\n".join(plan.missing))
    return plan


def _check_attention(config: RunConfig) -> None:
    if config.learner.attention == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
        raise ConfigError(
            "learner.attention is 'flash_attention_2', but the package flash-attn is not installed: set it to"
            " 'sdpa', which uses the flash kernels that torch brings and allows packing, or install"
            " flash-attn on every node of the learner"
        )


def _check_model(config: RunConfig) -> None:
    path = Path(config.model.path)
    looks_local = path.is_absolute() or path.exists() or config.model.path.startswith((".", "~"))
    if looks_local and not (path / "config.json").is_file():
        raise ConfigError(
            f"model.path: {path} holds no config.json; give the folder of a Hugging Face checkpoint, "
            f"or a hub name"
        )
    if not looks_local and config.model.path.count("/") != 1:
        raise ConfigError(
            f"model.path: '{config.model.path}' is neither a folder here nor a hub name (owner/name)"
        )
    if looks_local and config.model.revision is not None:
        raise ConfigError(
            f"model.revision is '{config.model.revision}', but model.path is a folder: leave it out, or give "
            f"a hub name"
        )
