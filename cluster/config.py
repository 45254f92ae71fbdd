"""The configuration of a run: typed, validated, importable without torch, ray or vllm.

A preset (TOML) contains the settings that differ from the defaults. Dotted overrides on the command line take
precedence over it:
`launch.py train configs/demo.toml --learner.lr=1e-4 --rollout.replicas=1`.
"""

import difflib
import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, CliApp, PydanticBaseSettingsSource, SettingsConfigDict

from data.config import DataConfig
from learner.config import LearnerConfig
from monitoring.config import MetricsConfig
from rewards.config import RewardConfig
from rewards.registry import samples_perturbed
from rollout.adapters import RANKS
from rollout.config import RolloutConfig
from rollout.environment import uses_async_engine
from runtime.config import ClusterConfig
from runtime.errors import ConfigError
from runtime.project import moved

FEWEST_GROUPS_PER_RANK = 4
"""With fewer groups per rank the ranks' shares of an update differ by 10 % or more
(`python -m benchmarks.lockstep`)."""

DECODE_TASKS_PER_REPLICA = 4
"""Decode tasks per rollout replica with `data.decode_tasks = "auto"`. 4 engines have 16 tasks, which decode
32 videos per second at 0.5 s each. This is ten times what training needs, because evaluations use as many
videos as they can get (docs/scaling.md)."""
FEWEST_PREFETCHED = 32


class ModelConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    path: str = "demo/tiny-internvl"
    """Folder of a Hugging Face checkpoint, or a model's name on the Hugging Face hub."""
    revision: str | None = None
    """Commit, branch or tag, if `path` is a name on the hub. Default: the main branch. A run keeps using the
    commit that it started from."""
    trust_remote_code: bool = False
    """Run Python code from the checkpoint. Leave this off unless you have read that code."""

    @field_validator("path")
    @classmethod
    def _moved(cls, path: str) -> str:
        return moved(path)


class ScheduleConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    videos_per_cohort: int = Field(8, ge=1)
    """Number of videos that the ranking reward compares with one another."""
    completions_per_video: int = Field(4, ge=1)
    """Number of completions per group (G). The clean copy and the perturbed copy of a video have one group
    each."""
    cohorts_per_update: int = Field(1, ge=1)
    """Number of cohorts that one update trains on."""
    epochs: int = Field(3, ge=1)
    """Number of passes over the training split."""
    updates: int | None = Field(None, ge=1)
    """Maximum number of updates, even if `epochs` would need more."""
    max_staleness: int = Field(0, ge=0)
    """Upper bound on how many policy versions old a trained token may be. 0 is strictly on-policy."""


class EvaluationConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    splits: list[str] = ["test"]
    """Values of the manifest's `split` column to evaluate before and after training."""
    during: list[str] = []
    """Values from `splits` that are also evaluated during training. Default: the first of `splits`. The
    scores on the first split in this list determine the best checkpoint."""
    every_updates: int = Field(25, ge=0)
    """Number of updates between evaluations during training; 0 evaluates only before and after."""
    videos: int = Field(512, ge=0)
    """Number of videos of each split to evaluate during training; 0: all. They are chosen once per run such
    that scores, label sets and sources are distributed as in the split. Before and after training all videos
    are evaluated."""
    beside_training: bool = True
    """Evaluate while the next update samples and trains. The next weights are sent after the evaluation has
    ended. If false, sampling and training wait for the evaluation."""
    kept_frames_mb: int = Field(2048, ge=0)
    """Maximum size of decoded frames that stay in the object store between evaluations during training,
    limited to a quarter of `cluster.object_store_mb` if that is set. Other videos are decoded at each
    evaluation."""
    samples: int = Field(0, ge=0)
    """Number of sampled answers per video for the mean-of-samples score, before and after training. With 0
    only greedy answers are evaluated."""
    max_completion_tokens: int | None = Field(None, ge=1)
    """Maximum length of an answer in tokens. Default: the same as in training."""
    bootstrap_samples: int = Field(2000, ge=100)
    """Number of bootstrap resamples for the 95 % intervals. Sources are resampled."""

    @model_validator(mode="after")
    def _during_is_evaluated(self) -> "EvaluationConfig":
        if strange := [split for split in self.during if split not in self.splits]:
            raise ValueError(
                f"evaluation.during names {', '.join(strange)}, which evaluation.splits does not: "
                f"add it there: gains are measured against the version before training"
            )
        return self

    @property
    def while_training(self) -> list[str]:
        return self.during or self.splits[:1]


class CheckpointConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    every_updates: int = Field(25, ge=0)
    """Number of updates between checkpoints; 0 writes only the last one."""
    keep_last: int = Field(2, ge=1)
    """Number of newest checkpoints to keep, in addition to the best one."""
    background: bool = True
    """Write a checkpoint while the next updates run, from a copy in host memory of 12 bytes per trainable
    parameter in total over all ranks. If false, updates wait until it is written. They also wait with
    `learner.offload`, which already keeps the state in host memory."""


class RunConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    run_dir: Path | None = None
    """Folder for all files of the run, on storage that all nodes share. Default: runs/NAME-DATE."""
    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run, and of its controller actor."""
    seed: int = Field(0, ge=0)
    """Seed of cohorts, perturbations and sampling."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    rollout: RolloutConfig = RolloutConfig()
    rewards: RewardConfig = RewardConfig()
    learner: LearnerConfig = LearnerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    cluster: ClusterConfig = ClusterConfig()
    metrics: MetricsConfig = MetricsConfig()

    @model_validator(mode="after")
    def _settings_agree(self) -> "RunConfig":
        if (self.rollout.gpus_per_replica > 0) != (self.learner.gpus_per_rank > 0):
            raise ValueError(
                "rollout.gpus_per_replica and learner.gpus_per_rank must both be 0 (CPU) or both be above 0: "
                "weights travel over NCCL or over the object store, not from one to the other"
            )
        if self.rollout.in_flight in ("keep", "abort") and not uses_async_engine(self.rollout):
            raise ValueError(
                f"rollout.in_flight is '{self.rollout.in_flight}', but the in-process engine can only "
                f"'finish': set rollout.engine to 'async', or leave rollout.in_flight at 'auto'"
            )
        lora = self.learner.lora
        if lora is not None and lora.send == "adapter" and lora.rank > RANKS[-1]:
            raise ValueError(
                f"learner.lora.rank is {lora.rank}, and engines serve adapters up to rank {RANKS[-1]}: lower "
                f"it, or set learner.lora.send to 'merged'"
            )
        if self.rollout.max_completion_tokens >= self.rollout.max_model_tokens:
            raise ValueError(
                f"rollout.max_completion_tokens ({self.rollout.max_completion_tokens}) leaves no room for a "
                f"prompt in rollout.max_model_tokens ({self.rollout.max_model_tokens}); raise the latter"
            )
        return self

    @property
    def temporal(self) -> bool:
        """True if perturbed copies are sampled."""
        return samples_perturbed(self.rewards)

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        return "cuda" if self.learner.gpus_per_rank > 0 else "cpu"

    @property
    def early_reference(self) -> bool:
        """True if the learner computes reference log-probs while it waits."""
        learner = self.learner
        wanted = learner.early_reference and learner.kl_coefficient > 0
        return wanted and not self.shares_gpu and not self.rollout.exact

    @property
    def checkpoint_in_background(self) -> bool:
        """Whether updates continue while a checkpoint is written; with offload they wait."""
        return self.checkpoint.background and self.learner.offload == "none"

    @property
    def kept_frames_bytes(self) -> int:
        """Size of the frames of evaluated videos that are kept in the object store."""
        most, store_mb = self.evaluation.kept_frames_mb, self.cluster.object_store_mb
        return 10**6 * (most if store_mb is None else min(most, store_mb // 4))

    @property
    def shares_gpu(self) -> bool:
        """True if learner ranks and rollout replicas share a GPU."""
        return 0 < self.learner.gpus_per_rank < 1 or 0 < self.rollout.gpus_per_replica < 1

    @property
    def decode_tasks(self) -> int:
        """Number of videos decoded at once."""
        asked = self.data.decode_tasks
        return DECODE_TASKS_PER_REPLICA * self.rollout.replicas if asked == "auto" else asked

    @property
    def prefetch_videos(self) -> int:
        """Number of videos decoded ahead of sampling. By default at least the videos of one update."""
        asked = self.cluster.prefetch_videos
        update = self.schedule.videos_per_cohort * self.schedule.cohorts_per_update
        return max(FEWEST_PREFETCHED, update) if asked == "auto" else asked

    @property
    def reserved_cpus(self) -> float:
        """Number of CPUs that all actors reserve, without decoding."""
        learner, rollout, rewards = self.learner, self.rollout, self.rewards
        return (
            learner.ranks * learner.cpus_per_rank
            + rollout.replicas * rollout.cpus_per_replica
            + rewards.actors * rewards.cpus_per_actor
        )

    def with_decoding_on(self, cpus: float) -> "RunConfig":
        """Return the configuration with `auto` replaced by numbers: as many decode tasks as fit into `cpus`
        CPUs of the cluster, but at least one."""
        tasks = self.decode_tasks
        if self.data.decode_tasks == "auto":
            room = (cpus - self.reserved_cpus) / self.data.decode_cpus
            tasks = tasks if room >= tasks else max(1, int(room))
        return self.model_copy(
            update={
                "data": self.data.model_copy(update={"decode_tasks": tasks}),
                "cluster": self.cluster.model_copy(update={"prefetch_videos": self.prefetch_videos}),
            }
        )

    def warnings(self) -> list[str]:
        """Return warnings about settings that work but are probably a mistake."""
        found = []
        if self.schedule.videos_per_cohort == 1:
            found.append("schedule.videos_per_cohort is 1: the ranking reward has no peers and is always 0")
        if self.schedule.completions_per_video == 1:
            found.append("schedule.completions_per_video is 1: a group of one has no advantage to learn from")
        groups, ranks = self.schedule.videos_per_cohort * self.schedule.cohorts_per_update, self.learner.ranks
        if ranks > 1 and groups < FEWEST_GROUPS_PER_RANK * ranks:
            found.append(
                f"an update has {groups} videos for {ranks} learner ranks, below {FEWEST_GROUPS_PER_RANK} a "
                "rank: ranks compute in step and wait for the one with the longest answers; raise "
                "schedule.cohorts_per_update, or lower learner.ranks (docs/scaling.md)"
            )
        return found


class _CommandLine(RunConfig, BaseSettings):
    """RunConfig read from dotted command-line flags, and not from environment variables."""

    model_config = SettingsConfigDict(
        extra="forbid", cli_kebab_case=False, cli_implicit_flags=False, cli_prog_name="launch.py train"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *environment: PydanticBaseSettingsSource,
        **named_environment: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


class DerivedSizes(BaseModel):
    """Sizes derived from the configuration and the number of training videos. Printed at the start."""

    train_videos: int
    cohorts_per_epoch: int
    updates: int
    videos_per_update: int
    completions_per_update: int
    sampled_completions_per_update: int
    learner_gpus: float
    rollout_gpus: float
    cpus: float


def derive_sizes(config: RunConfig, train_videos: int, cohorts_per_epoch: int) -> DerivedSizes:
    """Compute the derived sizes. No update mixes epochs, so the last update of an epoch may be smaller."""
    schedule, rollout, learner = config.schedule, config.rollout, config.learner
    updates = schedule.epochs * math.ceil(cohorts_per_epoch / schedule.cohorts_per_update)
    videos = min(train_videos, schedule.videos_per_cohort * schedule.cohorts_per_update)
    completions = videos * schedule.completions_per_video
    return DerivedSizes(
        train_videos=train_videos,
        cohorts_per_epoch=cohorts_per_epoch,
        updates=min(updates, schedule.updates or updates),
        videos_per_update=videos,
        completions_per_update=completions,
        sampled_completions_per_update=completions * (2 if config.temporal else 1),
        learner_gpus=learner.ranks * learner.gpus_per_rank,
        rollout_gpus=rollout.replicas * rollout.gpus_per_replica,
        cpus=config.reserved_cpus + config.decode_tasks * config.data.decode_cpus,
    )


def load_config(preset: Path | None, overrides: list[str] | None = None) -> RunConfig:
    """Read a TOML preset, or the JSON of a run directory, and apply dotted overrides (`--learner.lr=1e-4`).

    Raises ConfigError naming the file or flag, the field and the fix.
    """
    values: dict[str, Any] = {}
    if preset is not None:
        try:
            text = preset.read_text()
            values = json.loads(text) if preset.suffix == ".json" else tomllib.loads(text)
        except FileNotFoundError:
            near = sorted(str(p) for p in Path("configs").glob("*.toml"))
            raise ConfigError(f"{preset}: no such preset; the presets here are {', '.join(near)}") from None
        except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
            raise ConfigError(f"{preset}: cannot be read: {error}") from None
    known = set(field_names(RunConfig))
    for key in _leaf_keys(values, known):
        _require_known(key, known, f"{preset}: unknown setting '{key}'")
    arguments = list(overrides or [])
    for argument in arguments:
        if argument.startswith("--"):
            key = argument[2:].split("=", 1)[0]
            _require_known(key, known, f"unknown option '--{key}'", prefix="--")
        elif not argument.startswith("-") and "=" in argument:
            raise ConfigError(f"'{argument}': write overrides as --{argument}")
    try:
        resolved = CliApp.run(_CommandLine, cli_args=arguments, **values)
    except ValidationError as error:
        where = f"{preset}: " if preset else ""
        problems = [
            f"{where}{'.'.join(str(part) for part in e['loc']) or 'configuration'}: {e['msg']}"
            + (f" (it is {e['input']!r})" if e["type"] != "value_error" else "")
            for e in error.errors()
        ]
        raise ConfigError("\n".join(problems)) from None
    return RunConfig.model_validate(resolved.model_dump())


def dump_config(config: RunConfig) -> str:
    """Return the resolved configuration as JSON for the run directory. `RunConfig.model_validate_json` reads
    it."""
    return config.model_dump_json(indent=2)


def describe_fields(model: type[BaseModel] = RunConfig, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (dotted name, default, description) of every setting, in order."""
    for name, info in model.model_fields.items():
        blocks = [t for t in get_args(info.annotation) or (info.annotation,) if _is_block(t)]
        if not blocks or info.default is None:
            yield f"{prefix}{name}", str(info.default), info.description or ""
        for block in blocks:
            yield from describe_fields(block, f"{prefix}{name}.")


def _is_block(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def field_names(model: type[BaseModel]) -> list[str]:
    return [name for name, _, _ in describe_fields(model)]


def _leaf_keys(values: Mapping[str, Any], known: set[str], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of the given settings. A setting whose value is a free-form table is named as a
    whole."""
    for key, value in values.items():
        whole = f"{prefix}{key}" in known and not any(name.startswith(f"{prefix}{key}.") for name in known)
        if isinstance(value, Mapping) and not whole:
            yield from _leaf_keys(value, known, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _require_known(key: str, known: set[str], message: str, prefix: str = "") -> None:
    if key in known:
        return
    tails = {name.rsplit(".", 1)[-1]: name for name in known}
    near = difflib.get_close_matches(key, known, n=1) or [
        tails[t] for t in difflib.get_close_matches(key.rsplit(".", 1)[-1], tails, n=1)
    ]
    hint = f"; did you mean '{prefix}{near[0]}'?" if near else "; `launch.py settings` lists them all"
    raise ConfigError(message + hint)
