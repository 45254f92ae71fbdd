"""The FLOP of an update, against what PyTorch counts in the model itself and against sums made by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.update_flops import pass_gb
from cluster.config import load_config
from cluster.planning.architecture import read_architecture
from cluster.planning.flops import (
    Passes,
    Sizes,
    forward_flop,
    lockstep,
    passes,
    text_flop_per_token,
    update_flop,
    vision_flop_per_frame,
)

ROOT = Path(__file__).resolve().parents[2]
PAPER = ROOT / "configs" / "internvl3-8b.toml"
INTERNVL = read_architecture("OpenGVLab/InternVL3-8B-hf")
SIZES = Sizes(frames=6, frame_px=448, prompt_tokens=1784, answers=4, answer_tokens=300)


def test_flop_are_those_that_pytorch_counts_in_the_model() -> None:
    """PyTorch counts all of a causal square, the patch embedding, which the formulas leave out, and nothing
    within SDPA on the CPU, so that attention is computed in the plain way."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForImageTextToText

    folder, tokens = ROOT / "demo" / "tiny-internvl", 50
    built = AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="eager").eval()
    model = read_architecture(str(folder))
    text, config = model.text, built.config.vision_config
    with torch.no_grad(), FlopCounterMode(display=False) as language:
        built(input_ids=torch.zeros(1, tokens, dtype=torch.long))
    squares = 4 * text.layers * text.heads * text.head_dim * tokens**2
    head = 2 * text.hidden * text.vocabulary * tokens
    assert language.get_total_flops() == text_flop_per_token(model) * tokens + squares + head

    side = config.image_size[0]
    with torch.no_grad(), FlopCounterMode(display=False) as tower:
        built.model.get_image_features(torch.zeros(1, 3, side, side))
    patches = (side // config.patch_size[0]) ** 2
    embedding = 2 * 3 * config.patch_size[0] ** 2 * config.hidden_size * patches
    assert tower.get_total_flops() == vision_flop_per_frame(model, side) + embedding


def test_a_group_of_the_paper_by_hand() -> None:
    """docs/learner.md: 84 % of a packed group are the linear layers."""
    assert text_flop_per_token(INTERNVL) == 2 * 28 * (2 * 3584**2 + 2 * 3584 * 512 + 3 * 3584 * 18944)
    packed = forward_flop(INTERNVL, SIZES, "packed")
    assert packed.text == text_flop_per_token(INTERNVL) * (1784 + 4 * 300)
    assert packed.text / packed.total == pytest.approx(0.84, abs=0.005)
    assert packed.head == 2 * 3584 * 151_674 * 1200
    alone = replace(SIZES, answers=1)
    single, apart = forward_flop(INTERNVL, alone, "packed"), forward_flop(INTERNVL, SIZES, "answer by answer")
    assert apart.total == pytest.approx(4 * single.total)
    assert forward_flop(INTERNVL, SIZES, "frames once").vision == packed.vision


def test_passes_follow_from_the_settings() -> None:
    def of(*overrides: str) -> Passes:
        return passes(load_config(PAPER, list(overrides)), INTERNVL)

    assert of() == Passes(text=5, vision=5)
    assert of("--learner.kl_coefficient=0") == Passes(text=4, vision=4)
    assert of("--learner.gradient_checkpointing=false") == Passes(text=4, vision=4)
    assert of("--learner.train_vision=false") == Passes(text=5, vision=2)
    assert 4 < of("--learner.lora.rank=16").text < 4.1
    forward = forward_flop(INTERNVL, SIZES, "packed")
    assert update_flop(forward, Passes(1, 1), 2) == pytest.approx(2 * forward.total)


def test_ranks_in_step_compute_at_least_their_share() -> None:
    one = load_config(PAPER, ["--learner.ranks=1"])
    alone = lockstep(one, SIZES, 32, skipped=0)
    assert alone.ratio == pytest.approx(1)
    assert alone.passes >= 32 * SIZES.prompt_tokens / one.learner.micro_batch_tokens
    assert lockstep(load_config(PAPER, []), SIZES, 32, skipped=0.1).ratio > 1


def test_bytes_between_ranks_by_hand() -> None:
    gathered_gb, reduced_gb = pass_gb(load_config(PAPER, []), INTERNVL)
    assert (gathered_gb, reduced_gb) == pytest.approx((3 * 15.889, 15.889), abs=0.01)
