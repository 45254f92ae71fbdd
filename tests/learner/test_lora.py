"""LoRA trains adapters alone, and whatever sees the policy from outside sees the merged model."""

from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file

from cluster.config import load_config
from cluster.placement_plan import Node, demands, plan_placement
from cluster.weight_sync import NcclSync, ObjectStoreSync, make_weight_sync
from learner.batch_planning import split_group
from learner.checkpoint import read_index
from learner.config import LearnerConfig, LoraConfig
from learner.inputs import GroupEncoder, build_micro_batch
from learner.lora import SEED, LoraTargetError, base_model, target_layers
from learner.policy import Policy, prepare_model
from learner.weight_transfer import weight_layout
from runtime.errors import ConfigError
from tests.checkpoints import FRAME_PX, Kind, make_checkpoint
from tests.learner.test_zero3 import CONFIG, batches, largest_difference
from tests.plain_torch import completion_logprobs, load, random_groups, update_loss
from tests.ranks import Report, Script, run_ranks

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

RANK, ALPHA = 4, 6.0
LORA: dict[str, Any] = {"rank": RANK, "alpha": ALPHA, "target_modules": ["all-linear"]}
LENGTHS = [[5, 2, 9], [1, 7], [4]]


def config(**settings: Any) -> LearnerConfig:
    return LearnerConfig.model_validate(CONFIG | {"lora": LORA} | settings)


def with_peft(model: Any) -> Any:
    """peft's own wrapper around a plain model."""
    made = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear")
    torch.manual_seed(SEED)
    return peft.get_peft_model(model, made)


def scramble(model: Any) -> None:
    """Adapters as after some training: no matrix is zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))


def plain_updates(path: Path, data: list[Any], learner: LearnerConfig) -> tuple[Any, list[float]]:
    """(the model with peft's adapters, gradient norm of each update); SGD."""
    bare, processor = load(path)
    reference = load(path)[0].eval()
    model = with_peft(bare)
    trained = [p for p in model.parameters() if p.requires_grad]
    step = torch.optim.SGD(trained, lr=learner.lr)
    norms = []
    for batch in data:
        step.zero_grad()
        update_loss(
            model,
            reference,
            processor,
            batch.groups,
            batch.frames,
            batch.advantages,
            learner.kl_coefficient,
            learner.importance_cap,
        ).backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(trained, learner.max_grad_norm)))
        step.step()
    return model, norms


def merged_weights(model: Any) -> dict[str, np.ndarray]:
    return {n: p.detach().numpy() for n, p in model.merge_and_unload().named_parameters()}


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint("qwen3_vl", tmp_path_factory.mktemp("models") / "qwen")


# The policy


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["internvl", "qwen3_vl"])
def test_packed_equals_plain_torch_with_peft(
    internvl: Path, qwen: Path, kind: Kind, checkpointing: bool
) -> None:
    """Log-probs, and the gradients of a random projection of them: the adapters', and no others."""
    path = internvl if kind == "internvl" else qwen
    groups, frames = random_groups(path, LENGTHS, FRAME_PX[kind])

    model, processor = load(path)
    prepare_model(model, config(gradient_checkpointing=checkpointing))
    scramble(model)
    encoder = GroupEncoder(processor)
    policy = Policy(model, "packed", encoder.sampleable, 0.7, chunk_tokens=5)
    encoded = [encoder.encode(g, f) for g, f in zip(groups, frames, strict=True)]
    pieces = [
        piece
        for i, g in enumerate(encoded)
        for piece in split_group(
            i, len(g.tokens.prompt), [len(c) for c in g.tokens.completions], 10**6, packed=True
        )
    ]
    batch = build_micro_batch(pieces, dict(enumerate(encoded)), "packed", encoder.pad_id)
    found, _ = policy(batch)
    weights = torch.linspace(-1, 1, len(found))
    (found * weights).sum().backward()

    bare, _ = load(path)
    other = with_peft(bare)
    scramble(other)
    expected = torch.cat(
        [
            completion_logprobs(other, processor, g, f, c, 0.7)
            for g, f in zip(groups, frames, strict=True)
            for c in g.completions
        ]
    )
    (expected * weights[_order(batch.owners, groups)]).sum().backward()

    order = _order(batch.owners, groups)
    assert (found.detach()[order] - expected.detach()).abs().max() < 1e-5
    gradients = {f"base_model.{n}": p.grad for n, p in policy.named_parameters() if p.grad is not None}
    references = {n: p.grad for n, p in other.named_parameters() if p.requires_grad}
    assert gradients.keys() == references.keys()
    for name, gradient in references.items():
        assert gradient is not None
        assert gradient.abs().max() > 0, name
        tolerance = 2e-5 * max(1.0, float(gradient.abs().max()))
        assert (gradients[name] - gradient).abs().max() < tolerance, name


def _order(owners: list[tuple[int, int]], groups: list[Any]) -> list[int]:
    """Where the tokens of each completion, in the order of the groups, are among those of `owners`."""
    starts, start = {}, 0
    for owner in owners:
        starts[owner] = start
        start += len(groups[owner[0]].completions[owner[1]].token_ids)
    return [
        starts[g, c] + i
        for g, group in enumerate(groups)
        for c, completion in enumerate(group.completions)
        for i in range(len(completion.token_ids))
    ]


def test_the_reference_is_the_policy_without_its_adapters(internvl: Path) -> None:
    """Exactly the base's log-probs, also once the adapters are trained; afterwards they train on."""
    (group,), (frames,) = random_groups(internvl, [[5, 3]])
    model, processor = load(internvl)
    bare = load(internvl)[0]
    prepare_model(model, config())
    prepare_model(bare, config(lora=None))
    scramble(model)
    encoder = GroupEncoder(processor)
    encoded = [encoder.encode(group, frames)]
    pieces = split_group(0, len(encoded[0].tokens.prompt), [5, 3], 10**6, packed=True)
    batch = build_micro_batch(pieces, dict(enumerate(encoded)), "packed", encoder.pad_id)
    policy, base = (Policy(m, "packed", encoder.sampleable, 1.0, 64) for m in (model, bare))
    trained = {n for n, p in policy.named_parameters() if p.requires_grad}
    with base_model(policy):
        reference, _ = policy(batch)
    assert torch.equal(reference, base(batch)[0].detach())
    assert not reference.requires_grad
    assert {n for n, p in policy.named_parameters() if p.requires_grad} == trained
    assert (policy(batch)[0] - reference).abs().max() > 0.01


def test_weights_are_sent_under_the_base_models_names(internvl: Path) -> None:
    model, processor = load(internvl)
    bare = load(internvl)[0]
    expected = {n: list(p.shape) for n, p in bare.named_parameters()}
    prepare_model(model, config())
    layout = weight_layout(Policy(model, "packed", GroupEncoder(processor).sampleable, 1.0, 64))
    assert dict(zip(layout.names, layout.shapes, strict=True)) == expected


# Which layers


def test_a_frozen_tower_and_the_output_projection_get_no_adapter(internvl: Path) -> None:
    model = load(internvl)[0]
    lora = config().lora
    assert lora is not None
    everywhere = target_layers(model, config(), lora)
    text_only = target_layers(model, config(train_vision=False), lora)
    assert any("vision_tower" in name for name in everywhere)
    assert not any("vision_tower" in name for name in text_only)
    assert not any("lm_head" in name for name in everywhere)
    assert target_layers(model, config(), LoraConfig()) == text_names(model)
    some = lora.model_copy(update={"target_modules": ["q_proj", "v_proj"]})
    assert len(target_layers(model, config(train_vision=False), some)) == 2 * 2  # of two text layers


def text_names(model: Any) -> list[str]:
    """Of the linear layers of the language model, by their names alone."""
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    return [name for name in names if name.startswith("model.language_model.")]


def test_an_unknown_target_is_answered_with_those_there_are(internvl: Path) -> None:
    model = load(internvl)[0]
    odd = config(lora=LORA | {"target_modules": ["q_proj", "c_attn"]})
    with pytest.raises(LoraTargetError, match=r"no linear layer 'c_attn'; it has down_proj, .*all-linear"):
        prepare_model(model, odd)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--learner.lora.rank=0"], "learner.lora.rank"),
        (["--learner.lora.rnk=8"], "did you mean '--learner.lora.rank'"),
        (["--learner.lora.target_modules=[all-linear,q_proj]"], "name it alone"),
        (["--learner.lora.target_modules=[language-model,q_proj]"], "name it alone"),
        (["--learner.lora.rank=600"], "up to rank 512: lower it, or set learner.lora.send to 'merged'"),
        (["--learner.lora.target_modules=[]"], "learner.lora.target_modules"),
        (["--learner.gpus_per_rank=0.5", "--rollout.gpus_per_replica=0.5"], "set ranks to 1"),
        (["--learner.gpus_per_rank=1", "--rollout.gpus_per_replica=1.5"], "1.5 is neither a fraction"),
    ],
)
def test_wrong_settings(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, overrides)
    assert message in str(caught.value)


def test_settings_of_the_block_are_overridden_one_by_one() -> None:
    assert load_config(None, []).learner.lora is None
    lora = load_config(None, ["--learner.lora.rank=8", "--learner.lora.target_modules=[q_proj]"]).learner.lora
    assert lora is not None
    assert (lora.rank, lora.alpha, lora.target_modules) == (8, 32.0, ["q_proj"])


# On one GPU


def test_learner_and_engine_share_one_gpu() -> None:
    """The preset asks for no more than one, and NCCL, which takes no two ranks on a GPU, is left out."""
    config = load_config(Path(__file__).parents[2] / "configs" / "one-gpu-lora.toml")
    assert plan_placement([Node("a", {}, cpus=8, gpus=1)], *demands(config)).missing == []
    nobody: Any = None
    assert isinstance(make_weight_sync(nobody, nobody, config), ObjectStoreSync)
    apart = config.model_copy(
        update={
            "learner": config.learner.model_copy(update={"gpus_per_rank": 1.0}),
            "rollout": config.rollout.model_copy(update={"gpus_per_replica": 1.0}),
        }
    )
    assert isinstance(make_weight_sync(nobody, nobody, apart), NcclSync)
    assert isinstance(make_weight_sync(nobody, nobody, apart, adapters=True), ObjectStoreSync)
    assert plan_placement([Node("a", {}, cpus=8, gpus=1)], *demands(apart)).missing != []


# On ZeRO-3 ranks


@pytest.fixture(scope="module")
def trained(internvl: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """Two updates on two ranks with SGD at a rate of 1, so that adapters compare gradients; their checkpoint
    and export."""
    folder = tmp_path_factory.mktemp("run")
    script = Script(
        config(lr=1.0),
        internvl,
        batches(internvl, 2),
        optimizer="sgd",
        save_to=folder / "v2",
        export_to=folder / "final",
    )
    return folder, run_ranks(script)


def test_two_ranks_equal_one_process_with_peft(internvl: Path, trained: tuple[Path, Report]) -> None:
    """Over two updates, the second of which has a KL term that is not zero; merged as peft merges."""
    _, report = trained
    model, norms = plain_updates(internvl, batches(internvl, 2), config(lr=1.0))
    base = {n: p.detach().numpy() for n, p in load(internvl)[0].named_parameters()}
    assert report.layout == "packed"
    assert report.metrics[0]["learner/micro_batches"] > 1
    assert [m["learner/grad_norm"] for m in report.metrics] == pytest.approx(norms, rel=1e-5)
    assert report.metrics[0]["policy/kl_to_base"] == pytest.approx(0, abs=1e-9)
    assert report.metrics[1]["policy/kl_to_base"] > 0
    assert largest_difference(report.weights, merged_weights(model)) <= 1e-6
    changed = {n for n in base if not np.array_equal(base[n], report.weights[n])}
    assert changed == {f"{n}.weight" for n in target_layers(load(internvl)[0], config(), config().lora)}  # type: ignore[arg-type]
    assert largest_difference(report.weights, base) > 1e-3


@pytest.mark.slow
def test_the_checkpoint_holds_adapters_alone_and_resumes(internvl: Path, tmp_path: Path) -> None:
    """Bit for bit on as many ranks as wrote it, and to rounding on another number."""
    learner = config(lr=1e-3)
    three = batches(internvl, 3)
    whole = run_ranks(Script(learner, internvl, three))
    run_ranks(Script(learner, internvl, three[:2], save_to=tmp_path / "v2"))
    index = read_index(tmp_path / "v2")
    assert index["sizes"]
    assert all("lora_" in name for name in index["sizes"])
    rest = Script(learner, internvl, three[2:], first_version=2, load_from=tmp_path / "v2")
    resumed = run_ranks(rest)
    assert all(np.array_equal(resumed.weights[n], whole.weights[n]) for n in whole.weights)
    assert resumed.metrics[0]["learner/loss"] == whole.metrics[2]["learner/loss"]
    assert largest_difference(run_ranks(rest, ranks=1).weights, whole.weights) <= 5e-5


@pytest.mark.slow
def test_dropout_draws_alike_in_a_run_that_was_resumed(internvl: Path, tmp_path: Path) -> None:
    learner = config(lr=1e-3, lora=LORA | {"dropout": 0.2})
    three = batches(internvl, 3)
    whole = run_ranks(Script(learner, internvl, three))
    run_ranks(Script(learner, internvl, three[:2], save_to=tmp_path / "v2"))
    resumed = run_ranks(Script(learner, internvl, three[2:], first_version=2, load_from=tmp_path / "v2"))
    assert all(np.array_equal(resumed.weights[n], whole.weights[n]) for n in whole.weights)


@pytest.mark.slow
def test_adapters_on_parameters_that_are_given_back_after_each_use(
    internvl: Path, trained: tuple[Path, Report]
) -> None:
    """The reference pass, with adapters off, does not disturb the gathering for the next one."""
    data = batches(internvl, 2)
    released = run_ranks(Script(config(lr=1.0), internvl, data, optimizer="sgd", release_all=True))
    _, kept = trained
    assert largest_difference(released.weights, kept.weights) <= 1e-6


@pytest.mark.parametrize("lora", [None, LORA | {"alpha": 7.0}], ids=["none", "other scale"])
def test_a_checkpoint_of_other_adapters_is_refused(
    internvl: Path, trained: tuple[Path, Report], lora: dict[str, Any] | None
) -> None:
    folder, _ = trained
    with pytest.raises(RuntimeError, match="CheckpointError: .*learner.lora"):
        run_ranks(Script(config(lora=lora), internvl, load_from=folder / "v2"), ranks=1)


def test_the_export_is_the_merged_model_and_the_adapter_is_pefts(
    internvl: Path, trained: tuple[Path, Report]
) -> None:
    folder, report = trained
    exported = load(folder / "final")[0]
    weights = {n: p.detach().numpy() for n, p in exported.named_parameters()}
    assert largest_difference(weights, report.weights) == 0
    bare = load(internvl)[0]
    adapted = peft.PeftModel.from_pretrained(bare, folder / "final" / "adapter")
    assert adapted.peft_config["default"].base_model_name_or_path == str(internvl)
    stored = load_file(folder / "final" / "adapter" / "adapter_model.safetensors")
    assert len(stored) == 2 * len(target_layers(load(internvl)[0], config(), config().lora))  # type: ignore[arg-type]
    assert largest_difference(merged_weights(adapted), report.weights) <= 1e-7
