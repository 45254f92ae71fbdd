"""Encoding a video once for its group gives what encoding it for every completion gives."""

from pathlib import Path
from typing import Any

import pytest
import torch

from learner.batch_planning import split_group
from learner.config import LearnerConfig
from learner.inputs import GroupEncoder, PromptMismatch, build_micro_batch
from learner.policy import LogProbHead, Policy, choose_layout, prepare_model
from learner.records import Layout
from tests.checkpoints import FRAME_PX, Kind, make_checkpoint
from tests.plain_torch import completion_logprobs, load, random_groups

LENGTHS = [[5, 2, 9], [1, 7], [4]]


def run(
    path: Path, layout: Layout, px: int, config: LearnerConfig, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, dict[str, Any]]:
    """(log-probs by group, completion and token; gradients of a random projection of them)."""
    groups, frames = random_groups(path, LENGTHS, px)
    model, processor = load(path)
    prepare_model(model.to(dtype), config)
    encoder = GroupEncoder(processor)
    policy = Policy(model, layout, encoder.sampleable, 0.7, config.logprob_chunk_tokens)
    encoded = [encoder.encode(g, f) for g, f in zip(groups, frames, strict=True)]
    pieces = [
        p
        for i, g in enumerate(encoded)
        for p in split_group(
            i, len(g.tokens.prompt), [len(c) for c in g.tokens.completions], 10**6, layout == "packed"
        )
    ]
    logprobs, entropies = policy(build_micro_batch(pieces, dict(enumerate(encoded)), layout, encoder.pad_id))
    assert (entropies > 0).all()
    weights = torch.linspace(-1, 1, len(logprobs))
    (logprobs * weights).sum().backward()
    gradients = {n: p.grad for n, p in policy.named_parameters() if p.grad is not None}
    return logprobs.detach(), gradients


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint("qwen3_vl", tmp_path_factory.mktemp("models") / "qwen")


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    ("kind", "layout"),
    [
        ("internvl", "packed"),
        ("internvl", "vision_once"),
        ("qwen3_vl", "packed"),
        ("qwen3_vl", "vision_once"),
    ],
)
def test_layouts_equal_the_unpacked_reference(
    internvl: Path, qwen: Path, kind: str, layout: Layout, checkpointing: bool
) -> None:
    path = internvl if kind == "internvl" else qwen
    px = FRAME_PX["internvl" if kind == "internvl" else "qwen3_vl"]
    config = LearnerConfig(gradient_checkpointing=checkpointing, logprob_chunk_tokens=5)
    expected, expected_gradients = run(path, "unpacked", px, LearnerConfig(gradient_checkpointing=False))
    found, gradients = run(path, layout, px, config)
    assert found.shape == (sum(map(sum, LENGTHS)),)
    assert (found - expected).abs().max() < 1e-5
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        scale = max(1.0, float(expected_gradients[name].abs().max()))
        assert (gradient - expected_gradients[name]).abs().max() < 2e-5 * scale, name


@pytest.mark.parametrize("kind", ["internvl", "qwen3_vl"])
def test_packing_loses_no_precision_in_bf16(internvl: Path, qwen: Path, kind: Kind) -> None:
    """Packed and unpacked in bfloat16 are equally far from float32, log-probs and gradients."""
    path = internvl if kind == "internvl" else qwen
    config = LearnerConfig(logprob_chunk_tokens=5)
    exact, exact_gradients = run(path, "unpacked", FRAME_PX[kind], config)

    def errors(layout: Layout) -> tuple[float, float]:
        found, gradients = run(path, layout, FRAME_PX[kind], config, torch.bfloat16)
        off = torch.stack([(gradients[n].float() - g).norm() for n, g in exact_gradients.items()])
        whole = torch.stack([g.norm() for g in exact_gradients.values()])
        return float((found - exact).abs().mean()), float(off.norm() / whole.norm())

    unpacked, packed = errors("unpacked"), errors("packed")
    assert 1e-4 < unpacked[0] < 0.1, "bfloat16 is at work, and not nonsense"
    assert packed[0] < 1.2 * unpacked[0]
    assert packed[1] < 1.2 * unpacked[1]


def test_unpacked_is_what_the_model_says_by_itself(internvl: Path) -> None:
    groups, frames = random_groups(internvl, LENGTHS)
    model, processor = load(internvl)
    with torch.no_grad():
        alone = torch.cat(
            [
                completion_logprobs(model, processor, g, f, c, 0.7)
                for g, f in zip(groups, frames, strict=True)
                for c in g.completions
            ]
        )
    config = LearnerConfig(gradient_checkpointing=False)
    found, _ = run(internvl, "unpacked", FRAME_PX["internvl"], config)
    assert (found - alone).abs().max() < 1e-5


@pytest.mark.parametrize("layout", ["unpacked", "packed"])
def test_padding_is_what_the_rows_have_beyond_their_tokens(internvl: Path, layout: Layout) -> None:
    groups, frames = random_groups(internvl, LENGTHS)
    encoder = GroupEncoder(load(internvl)[1])
    encoded = [encoder.encode(g, f) for g, f in zip(groups, frames, strict=True)]
    lengths = [[len(c) for c in g.tokens.completions] for g in encoded]
    prompt = len(encoded[0].tokens.prompt)
    pieces = [p for i, n in enumerate(lengths) for p in split_group(i, prompt, n, 10**6, layout == "packed")]
    batch = build_micro_batch(pieces, dict(enumerate(encoded)), layout, encoder.pad_id)
    expected = [sum(n) for n in lengths] if layout == "packed" else [m for n in lengths for m in n]
    assert batch.rows.tokens == sum(prompt + n for n in expected)
    size = batch.rows.tokens if layout == "packed" else len(expected) * (prompt + max(expected))
    assert batch.rows.input_ids.numel() == size


def test_layout_follows_from_model_and_attention(internvl: Path, qwen: Path) -> None:
    model, other = load(internvl)[0], load(qwen)[0]
    assert choose_layout(model, LearnerConfig()) == "packed"
    assert choose_layout(model, LearnerConfig(packing="none")) == "unpacked"
    assert choose_layout(other, LearnerConfig()) == "packed"
    flash = LearnerConfig(attention="flash_attention_2")
    assert choose_layout(model, flash) == "vision_once"
    with pytest.raises(ValueError, match="learner.attention is 'flash_attention_2'"):
        choose_layout(model, flash.model_copy(update={"packing": "group"}))
    other.config.model_type = "qwen9_vl"
    assert choose_layout(other, LearnerConfig()) == "vision_once"
    with pytest.raises(ValueError, match="has not been shown to be exact for models of type 'qwen9_vl'"):
        choose_layout(other, LearnerConfig(packing="group"))


def test_a_prompt_that_the_engine_saw_differently_is_refused(internvl: Path) -> None:
    (group,), (frames,) = random_groups(internvl, [[2]])
    group.prompt_token_ids.insert(3, group.prompt_token_ids[3])
    with pytest.raises(PromptMismatch, match="video v0: .* part at position"):
        GroupEncoder(load(internvl)[1]).encode(group, frames)


def test_a_completion_with_a_vision_placeholder_is_refused(internvl: Path) -> None:
    (group,), (frames,) = random_groups(internvl, [[2]])
    model, processor = load(internvl)
    group.completions[0].token_ids[0] = model.config.image_token_id
    with pytest.raises(ValueError, match="which the engine may not sample"):
        GroupEncoder(processor).encode(group, frames)


def test_what_may_not_be_sampled_is_where_the_projection_is() -> None:
    """DeepSpeed moves no buffer of a model that was sharded as it was loaded."""
    head = LogProbHead(torch.nn.Linear(4, 8, device="meta"), [1, 2], 8, temperature=1.0, chunk_tokens=4)
    assert head.barred.device.type == "meta"
