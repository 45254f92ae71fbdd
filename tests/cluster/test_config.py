"""Settings are validated, documented, and wrong ones answered with a suggestion."""

from pathlib import Path

import pytest

from cluster.config import RunConfig, derive_sizes, describe_fields, dump_config, load_config
from runtime.errors import ConfigError

PRESETS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.stem)
def test_presets_load_and_survive_a_round_trip(preset: Path, tmp_path: Path) -> None:
    config = load_config(preset)
    written = tmp_path / "config.json"
    written.write_text(dump_config(config))
    assert load_config(written) == config


def test_overrides_win_over_the_preset_and_over_defaults() -> None:
    demo = PRESETS[0].parent / "demo.toml"
    config = load_config(demo, ["--learner.lr=1e-5", "--seed=7", "--evaluation.splits=[test]"])
    assert (config.learner.lr, config.seed, config.evaluation.splits) == (1e-5, 7, ["test"])
    assert config.schedule == load_config(demo).schedule


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--lerner.lr=1"], "did you mean '--learner.lr'"),
        (["--replicas=1"], "did you mean '--rollout.replicas'"),
        (["--zzzzzz=1"], "launch.py settings"),
        (["learner.lr=1"], "write overrides as --learner.lr=1"),
        (["--learner.lr=fast"], "learner.lr"),
        (["--learner.lr=-1"], "learner.lr"),
        (["--rollout.gpus_per_replica=1"], "must both be 0"),
        (["--evaluation.during=[ood]"], "evaluation.during names ood, which evaluation.splits does not"),
        (["--rollout.max_model_tokens=64", "--rollout.max_completion_tokens=64"], "leaves no room"),
    ],
)
def test_wrong_overrides(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, overrides)
    assert message in str(caught.value)


def test_the_first_split_is_judged_while_training_unless_others_are_named() -> None:
    both = "--evaluation.splits=[test,ood]"
    assert load_config(None, [both]).evaluation.while_training == ["test"]
    assert load_config(None, [both, "--evaluation.during=[ood,test]"]).evaluation.while_training == [
        "ood",
        "test",
    ]


def test_wrong_presets(tmp_path: Path) -> None:
    preset = tmp_path / "p.toml"
    with pytest.raises(ConfigError, match="no such preset"):
        load_config(preset)
    preset.write_text("[learner]\nlearning_rate = 1\n")
    with pytest.raises(ConfigError, match="unknown setting 'learner.learning_rate'"):
        load_config(preset)
    preset.write_text("learner = [")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(preset)
    preset.write_text("[learner]\nlr = 'fast'\n")
    with pytest.raises(ConfigError, match=r"p.toml: learner.lr: .*'fast'"):
        load_config(preset)


def test_every_setting_is_documented() -> None:
    undocumented = [name for name, _, text in describe_fields() if len(text) < 15]
    assert undocumented == []


def test_derived_sizes() -> None:
    config = load_config(None, ["--schedule.cohorts_per_update=2", "--schedule.epochs=2"])
    sizes = derive_sizes(config, train_videos=100, cohorts_per_epoch=13)
    assert sizes.updates == 14, "the last update of an epoch is smaller; none mixes epochs"
    assert (sizes.videos_per_update, sizes.completions_per_update) == (16, 64)
    assert sizes.sampled_completions_per_update == 128
    assert derive_sizes(load_config(None, ["--rewards.temporal_weight=0"]), 100, 13).updates == 39


def test_likely_mistakes_are_warned_of() -> None:
    assert RunConfig().warnings() == []
    alone = load_config(None, ["--schedule.videos_per_cohort=1", "--schedule.completions_per_video=1"])
    assert len(alone.warnings()) == 3  # and too few groups for two ranks


def test_too_few_groups_for_the_ranks_is_warned_of() -> None:
    """Below four groups a rank; one rank has nobody to keep step with."""

    def warned(ranks: int, cohorts: int) -> bool:
        given = [f"--learner.ranks={ranks}", f"--schedule.cohorts_per_update={cohorts}"]
        return any("below 4 a rank" in warning for warning in load_config(None, given).warnings())

    assert warned(ranks=4, cohorts=1)
    assert not warned(ranks=2, cohorts=1)
    assert not warned(ranks=32, cohorts=16)
    assert not warned(ranks=1, cohorts=1)


def test_decoding_follows_the_cluster_unless_it_is_said_how_much() -> None:
    config = load_config(None, ["--rollout.replicas=32", "--schedule.cohorts_per_update=16"])
    assert (config.decode_tasks, config.prefetch_videos) == (128, 128)
    assert RunConfig().decode_tasks == 8
    assert RunConfig().prefetch_videos == 32
    room = config.with_decoding_on(config.reserved_cpus + 10)
    assert (room.data.decode_tasks, room.cluster.prefetch_videos) == (40, 128)
    assert config.with_decoding_on(config.reserved_cpus).decode_tasks == 1
    assert config.with_decoding_on(10_000).decode_tasks == 128
    said = load_config(None, ["--data.decode_tasks=3", "--cluster.prefetch_videos=7"]).with_decoding_on(1)
    assert (said.decode_tasks, said.prefetch_videos) == (3, 7)
    for wrong in ("0", "many"):
        with pytest.raises(ConfigError, match="decode_tasks"):
            load_config(None, [f"--data.decode_tasks={wrong}"])
