"""Memory plans against sums made by hand (docs/memory.md), parameter counts against transformers."""

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.config import RunConfig, load_config
from cluster.planning.adapters import adapter_serving, why_merged
from cluster.planning.architecture import known_architecture, read_architecture
from cluster.planning.memory import (
    activations_gb,
    checkpoint_copy_gb,
    host_lines,
    learner_budget,
    learner_cure,
    rollout_budget,
    rollout_cure,
    sent_weights_gb,
    trained_parameters,
)
from cluster.planning.published import PUBLISHED_FOLDER, folder_name, published_names
from learner.config import LearnerConfig
from runtime.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
PRESETS = sorted((ROOT / "configs").glob("*.toml"))
PAPER = ROOT / "configs" / "internvl3-8b.toml"
INTERNVL = read_architecture("OpenGVLab/InternVL3-8B-hf")


def paper(*overrides: str) -> RunConfig:
    return load_config(PAPER, list(overrides))


# Parameters


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("OpenGVLab/InternVL3-2B-hf", 2_088_957_440),
        ("OpenGVLab/InternVL3-8B-hf", 7_944_373_760),
        ("OpenGVLab/InternVL3_5-8B-HF", 8_528_318_464),
        ("Qwen/Qwen2-VL-7B-Instruct", 8_291_375_616),
        ("Qwen/Qwen2.5-VL-7B-Instruct", 8_292_166_656),
        ("Qwen/Qwen3-VL-8B-Instruct", 8_767_123_696),
        ("Qwen/Qwen3.5-9B", 9_409_813_744),
        ("zai-org/GLM-4.1V-9B-Thinking", 10_292_777_472),
    ],
)
def test_published_sizes(name: str, parameters: int) -> None:
    """InternVL's and Qwen3-VL's pages give 2.09, 7.94, 8.5 and 8.77 billion. Qwen3.5 is counted without its
    head for speculative decoding, which is not trained."""
    assert read_architecture(name).parameters == parameters


def test_every_published_model_is_counted() -> None:
    names = published_names()
    assert len(names) > 6
    for name in names:
        model = read_architecture(name)
        assert model.vision.layers in (24, 27, 32)
        assert 0.2e9 < model.vision.parameters < 1e9
        assert model.vision.tokens(448) in (256, 196)


def test_layers_of_linear_attention_cache_no_keys() -> None:
    """8 of Qwen3.5's 32 layers have full attention."""
    text = read_architecture("Qwen/Qwen3.5-9B").text
    assert text.kv_bytes_per_token == 2 * 8 * 4 * 256 * 2


def test_weights_say_whether_the_output_projection_is_the_embedding(tmp_path: Path) -> None:
    config = (PUBLISHED_FOLDER / folder_name("OpenGVLab/InternVL3-8B-hf") / "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    for names, parameters in (
        (["language_model.lm_head.weight"], 7_944_373_760),
        (["language_model.model.embed_tokens.weight"], 7_944_373_760 - 151_674 * 3584),
    ):
        index = {"weight_map": dict.fromkeys(names, "model-00001.safetensors")}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        assert read_architecture(str(tmp_path)).parameters == parameters


@pytest.mark.parametrize(
    "settings",
    [
        {"lora": {"rank": 8}},
        {"lora": {"rank": 8, "target_modules": ["all-linear"]}},
        {"lora": {"rank": 8, "target_modules": ["all-linear"]}, "train_vision": False},
        {"lora": {"rank": 4, "target_modules": ["q_proj", "down_proj"]}},
    ],
    ids=["language model", "all", "frozen tower", "some"],
)
@pytest.mark.parametrize(
    "name", ["OpenGVLab/InternVL3-2B-hf", "Qwen/Qwen3-VL-8B-Instruct", "demo/tiny-internvl"]
)
def test_adapters_are_those_that_peft_makes(name: str, settings: dict[str, Any]) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    from learner.policy import prepare_model

    folder = ROOT / name if name.startswith("demo/") else PUBLISHED_FOLDER / folder_name(name)
    learner = LearnerConfig.model_validate(settings)
    with torch.device("meta"):
        built = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder))
        prepare_model(built, learner)
    expected = sum(p.numel() for p in built.parameters() if p.requires_grad)
    assert trained_parameters(learner, read_architecture(str(folder))) == expected


def test_targets_that_no_layer_has_are_refused() -> None:
    learner = LearnerConfig.model_validate({"lora": {"target_modules": ["c_attn"]}})
    with pytest.raises(ConfigError, match="no linear layer 'c_attn' to train; it has .*q_proj.*all-linear"):
        trained_parameters(learner, INTERNVL)


def test_models_that_cannot_be_counted_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not known here: give a folder"):
        read_architecture("someone/else")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigError, match="the family 'bert' cannot be counted"):
        read_architecture(str(tmp_path))


# Budgets


def test_the_learner_by_hand() -> None:
    """docs/memory.md, line by line."""
    budget = learner_budget(paper(), INTERNVL)
    assert {line.name: round(line.gb, 2) for line in budget.held} == {
        "parameters": 3.97,
        "gradients": 7.94,
        "optimizer": 23.83,
        "reference policy": 3.97,
        "gathered parameters": 2.0,
        "reduce bucket": 3.0,
    }
    assert {line.name: round(line.gb, 2) for line in budget.phases} == {
        "activations": 14.43,
        "optimizer step": 8.0,
        "sending weights": 3.8,
    }
    assert budget.total_gb == pytest.approx(64.11, abs=0.005)


def test_rollout_by_hand() -> None:
    budget = rollout_budget(paper(), INTERNVL)
    assert [round(line.gb, 2) for line in budget.held] == [15.89, 1.28, 2.0]
    assert [round(line.gb, 2) for line in budget.outside] == [1.0, 1.62]
    assert budget.kv_bytes_per_token == 57_344
    assert budget.kv_gb(80) == pytest.approx(48.83, abs=0.005)
    assert budget.sequences(80) == pytest.approx(103.9, abs=0.05)


@pytest.mark.parametrize(
    ("override", "name", "share"),
    [
        ("--learner.ranks=8", "optimizer", 0.5),
        ("--learner.ranks=8", "reference policy", 0.5),
        ("--learner.micro_batch_tokens=8192", "activations", 0.5),
    ],
)
def test_what_is_shared_out_shrinks(override: str, name: str, share: float) -> None:
    def gb(config: RunConfig) -> float:
        budget = learner_budget(config, INTERNVL)
        return next(line.gb for line in [*budget.held, *budget.phases] if line.name == name)

    assert gb(paper(override)) == pytest.approx(share * gb(paper()), rel=0.05)


def test_options_that_save_memory_do() -> None:
    whole = learner_budget(paper(), INTERNVL).total_gb
    for option in ("--learner.kl_coefficient=0", "--learner.train_vision=false"):
        assert learner_budget(paper(option), INTERNVL).total_gb < whole
    kept = activations_gb(paper("--learner.gradient_checkpointing=false"), INTERNVL)
    assert kept > 5 * activations_gb(paper(), INTERNVL)
    assert activations_gb(paper("--learner.attention=eager"), INTERNVL) > activations_gb(paper(), INTERNVL)


def test_tensor_parallelism_shares_out_weights_and_cache() -> None:
    one = rollout_budget(paper(), INTERNVL)
    two = rollout_budget(paper("--rollout.gpus_per_replica=2"), INTERNVL)
    assert two.held[0].gb == one.held[0].gb / 2
    assert two.kv_bytes_per_token == one.kv_bytes_per_token / 2


def test_lora_by_hand() -> None:
    """docs/memory.md, line by line; of the frozen model, only its parameters are held."""
    config = load_config(ROOT / "configs" / "one-gpu-lora.toml")
    budget = learner_budget(config, read_architecture(config.model.path))
    assert {line.name: round(line.gb, 2) for line in budget.held} == {
        "parameters": 4.21,
        "gradients": 0.07,
        "optimizer": 0.22,
        "gathered parameters": 2.0,
        "reduce bucket": 1.07,
    }


def test_rank_0_holds_the_weights_that_it_sends_over_nccl() -> None:
    """Adapters, and weights on a shared GPU or the CPU, go through the object store."""
    preset, shared = ROOT / "configs" / "internvl3-8b.toml", ROOT / "configs" / "one-gpu-lora.toml"
    assert sent_weights_gb(load_config(preset), INTERNVL) == pytest.approx(15.89, abs=0.01)
    assert sent_weights_gb(load_config(shared, ["--learner.lora.send=merged"]), INTERNVL) == 0
    assert sent_weights_gb(load_config(preset, ["--learner.lora.rank=16"]), INTERNVL) == 0
    assert sent_weights_gb(load_config(None), INTERNVL) == 0


def test_engines_of_a_lora_run_have_room_for_adapters() -> None:
    """One for each version that `max_staleness` allows; without them, for weights on their way."""
    preset = ROOT / "configs" / "one-gpu-lora.toml"
    model = read_architecture("OpenGVLab/InternVL3-2B-hf")
    trained = trained_parameters(load_config(preset).learner, model)

    def lines(*overrides: str) -> dict[str, float]:
        budget = rollout_budget(load_config(preset, list(overrides)), model)
        return {line.name: line.gb for line in (*budget.held, *budget.outside)}

    assert lines()["adapters"] == pytest.approx(2 * trained / 1e9)
    assert lines("--schedule.max_staleness=2")["adapters"] == pytest.approx(3 * 2 * trained / 1e9)
    assert lines("--learner.lora.rank=17")["adapters"] == pytest.approx(2 * 2 * trained / 1e9)
    assert "weight transfer" not in lines()
    merged = lines("--learner.lora.send=merged")
    assert "adapters" not in merged
    assert merged["weight transfer"] > 1


@pytest.mark.parametrize(
    ("overrides", "model", "reason"),
    [
        ([], "OpenGVLab/InternVL3-2B-hf", None),
        (["--learner.lora.send=merged"], "OpenGVLab/InternVL3-2B-hf", "send is 'merged'"),
        (["--learner.lora.target_modules=[all-linear]"], "OpenGVLab/InternVL3-2B-hf", "tower or projector"),
        (["--learner.lora.target_modules=[q_proj]"], "OpenGVLab/InternVL3-2B-hf", "tower or projector"),
        (
            ["--learner.lora.target_modules=[q_proj]", "--learner.train_vision=false"],
            "OpenGVLab/InternVL3-2B-hf",
            None,
        ),
        (["--learner.lora.target_modules=[q_proj]"], "Qwen/Qwen3-VL-8B-Instruct", None),
        ([], "Qwen/Qwen3.5-9B", "family 'qwen3_5' have not been shown"),
        ([], "someone/else", "family of 'someone/else' is not known here"),
    ],
)
def test_engines_get_adapters_where_they_can_serve_them(
    overrides: list[str], model: str, reason: str | None
) -> None:
    preset = ROOT / "configs" / "one-gpu-lora.toml"
    config = load_config(preset, [f"--model.path={model}", *overrides])
    found = why_merged(config, known_architecture(model))
    assert (found is None) == (reason is None)
    assert (reason or "") in (found or "")
    assert (adapter_serving(config, known_architecture(model)) is None) == (reason is not None)


def test_offload_by_hand() -> None:
    """What leaves the GPU is in host memory, where pinned buffers take a power of two of bytes."""
    whole, optimizer, both = (
        paper(f"--learner.offload={where}") for where in ("none", "optimizer", "optimizer_and_parameters")
    )
    shard = INTERNVL.parameters / 4 / 1e9

    def held(config: RunConfig) -> float:
        return sum(line.gb for line in learner_budget(config, INTERNVL).held)

    assert held(whole) - held(optimizer) == pytest.approx((4 + 12) * shard)
    assert held(optimizer) - held(both) == pytest.approx((2 + 2) * shard)
    assert host_lines(whole, INTERNVL) == []
    assert [checkpoint_copy_gb(config, INTERNVL) for config in (whole, optimizer)] == [12 * shard, 0]
    assert checkpoint_copy_gb(paper("--checkpoint.background=false"), INTERNVL) == 0
    assert {line.name: line.gb for line in host_lines(optimizer, INTERNVL)} == pytest.approx(
        {"gradients": 2**33 / 1e9, "clipped gradients": 2 * 2**32 / 1e9, "optimizer": 12 * shard}
    )
    shards = {line.name: line.gb for line in host_lines(both, INTERNVL)[3:]}
    assert shards == pytest.approx({"parameters": 2**32 / 1e9, "reference policy": 2**32 / 1e9})


def test_offload_is_a_cure_before_more_gpus_are() -> None:
    assert learner_cure(paper(), INTERNVL, 48) == "--learner.offload=optimizer"
    less = paper("--learner.ranks=2", "--learner.offload=optimizer")
    assert not learner_budget(less, INTERNVL).fits(24)
    cure = learner_cure(less, INTERNVL, 24)
    assert cure is not None
    assert "--learner.offload=optimizer_and_parameters" in cure


def test_a_shared_gpu_has_room_for_both_or_is_refused() -> None:
    preset = ROOT / "configs" / "one-gpu-lora.toml"
    config = load_config(preset)
    model = read_architecture(config.model.path)
    budget = learner_budget(config, model)
    assert budget.fits(48)
    assert budget.room_gb(48) == pytest.approx(0.6 * 48 - 1)
    greedy = load_config(preset, ["--rollout.gpu_memory_utilization=0.7"])
    assert not learner_budget(greedy, model).fits(48)
    assert rollout_budget(greedy, model).fits(48)
    small = load_config(preset, ["--rollout.gpu_memory_utilization=0.1"])
    assert rollout_cure(small, model, 48) == "--rollout.gpu_memory_utilization=0.2"
    assert learner_cure(greedy, model, 24) is None, "ranks cannot share one GPU with each other"


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.stem)
def test_presets_fit_80_gb(preset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = load_config(preset)
    model = read_architecture(config.model.path)
    assert learner_budget(config, model).fits(80)
    assert rollout_budget(config, model).fits(80)


@pytest.mark.parametrize("gpu_gb", [24, 48, 80])
def test_a_cure_is_one(gpu_gb: float) -> None:
    """What is proposed fits, and nothing is proposed where everything fits."""
    for overrides in ([], ["--learner.ranks=2"], ["--learner.gradient_checkpointing=false"]):
        config = paper(*overrides)
        cure = learner_cure(config, INTERNVL, gpu_gb)
        assert cure is not None
        assert (cure == "") == learner_budget(config, INTERNVL).fits(gpu_gb)
        assert learner_budget(paper(*overrides, *cure.split()), INTERNVL).fits(gpu_gb)
    qwen = read_architecture("Qwen/Qwen3-VL-8B-Instruct")
    cure = rollout_cure(paper(), qwen, gpu_gb)
    assert cure is not None
    assert rollout_budget(paper(*cure.split()), qwen).fits(gpu_gb)


def test_what_no_setting_cures_is_said() -> None:
    assert learner_cure(paper(), INTERNVL, 8) is None
    assert rollout_cure(paper("--rollout.gpu_memory_utilization=0.1"), INTERNVL, 8) is None
