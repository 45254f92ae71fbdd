"""The tiny base: how it is made, and that the one in the repository is what its figures say."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from data.distortions import TRAIN_KINDS
from data.prompt import prompt_text
from demo.base_model.architecture import FRAME_PX, N_FRAMES, PATCH_PX, TOKENS_PER_FRAME
from demo.base_model.clips import Clips, augment
from demo.base_model.decoding import (
    answer_logits,
    embed_prompts,
    encode_answers,
    frame_stride,
    prompt_token_ids,
    sample_answers,
)
from demo.base_model.initialisation import build_model, dct_patch_embedding
from demo.base_model.recipe import CEILING_NAME, LOG_NAME, Recipe
from demo.base_model.tokenizer import build_processor, build_tokenizer
from demo.base_model.traces import (
    PHRASES,
    SCORE_OFFSETS,
    SCORE_SPREAD,
    STRENGTHS,
    TEMPLATES,
    completion,
    corpus,
    miscalibrated_score,
    strength_index,
    thought,
)
from demo.base_model.training import Schedule, Stage, train
from demo.base_model.warm_start import without_words
from rewards.format import is_well_formed
from rewards.parser import parse_score

SHIPPED = Path(__file__).resolve().parents[2] / "demo" / "tiny-internvl"


@pytest.fixture(scope="module")
def processor() -> Any:
    return build_processor(build_tokenizer(corpus()))


@pytest.fixture(scope="module")
def fresh(processor: Any) -> Any:
    return build_model(processor.tokenizer, frame_stride(processor), seed=0).eval()


def some_frames(n_videos: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n_videos, N_FRAMES, FRAME_PX, FRAME_PX, 3), dtype=np.uint8)


def test_every_trace_is_well_formed_and_names_kind_and_strength() -> None:
    for text in corpus():
        assert is_well_formed(text)
        assert parse_score(text) is not None
    for kind in TRAIN_KINDS:
        words = {
            thought(kind, mos, template) for mos in (1.2, 3.0, 4.8) for template in range(len(TEMPLATES))
        }
        assert len(words) == 3 * len(TEMPLATES)
        assert all(PHRASES[kind].noun in text for text in words)
    with pytest.raises(ValueError, match="'mosaic' has no phrase"):
        thought("mosaic", 3.0, 0)


def test_strength_words_run_from_the_best_fifth_to_the_worst() -> None:
    assert [STRENGTHS[strength_index(mos)] for mos in (5.0, 4.0, 3.0, 2.0, 1.0)] == list(STRENGTHS)


def test_the_warm_start_is_miscalibrated_by_kind_and_not_by_chance() -> None:
    rng = np.random.default_rng(0)
    mean = {k: np.mean([miscalibrated_score(k, 3.0, rng) for _ in range(2000)]) for k in TRAIN_KINDS}
    for kind, offset in SCORE_OFFSETS.items():
        assert mean[kind] - 3.0 == pytest.approx(offset, abs=5 * SCORE_SPREAD / 2000**0.5)
    assert np.std(list(SCORE_OFFSETS.values())) > 0.5


def test_a_trace_survives_the_tokenizer_one_token_a_word(processor: Any) -> None:
    tokenizer = processor.tokenizer
    for text in corpus():
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        words = len(text.split("</think>")[0].split())
        # Beyond its words: four tags, punctuation (at most three), and the score's four.
        assert len(ids) <= words + 11


def test_the_prompt_holds_every_frame_once(processor: Any) -> None:
    ids = prompt_token_ids(processor, N_FRAMES)
    assert (ids == processor.image_token_id).sum() == N_FRAMES * TOKENS_PER_FRAME
    assert processor.tokenizer.decode(ids).endswith("<|im_start|>assistant\n")
    assert prompt_text(processor, N_FRAMES).count("Frame") == N_FRAMES
    starts = (ids == processor.start_image_token_id).nonzero().flatten().diff().tolist()
    assert set(starts) == {frame_stride(processor)}


def test_the_patch_embedding_starts_as_an_orthogonal_transform_of_luma() -> None:
    filters = dct_patch_embedding(128, PATCH_PX)
    assert filters.shape == (128, 3, PATCH_PX, PATCH_PX)
    luma = filters[:64].sum(1).flatten(1)
    gram = luma @ luma.T
    assert torch.allclose(gram, torch.diag(gram.diagonal()), atol=1e-3)
    flat = torch.ones(3, PATCH_PX, PATCH_PX)
    response = (filters * flat).sum((1, 2, 3))
    assert response[0] > 1
    assert response[1:].abs().max() < 1e-2, "a flat grey patch excites the mean alone"


def test_the_same_seed_makes_the_same_weights(processor: Any, fresh: Any) -> None:
    again = build_model(processor.tokenizer, frame_stride(processor), seed=0)
    other = build_model(processor.tokenizer, frame_stride(processor), seed=1)
    same = [torch.equal(a, b) for a, b in zip(fresh.parameters(), again.parameters(), strict=True)]
    assert all(same)
    assert not all(torch.equal(a, b) for a, b in zip(fresh.parameters(), other.parameters(), strict=True))


def test_one_head_pair_starts_by_subtracting_the_frame_before(processor: Any, fresh: Any) -> None:
    ids = prompt_token_ids(processor, N_FRAMES)
    moving = some_frames(1)
    still = np.repeat(moving[:, :1], N_FRAMES, axis=1)
    attention = fresh.model.language_model.layers[0].self_attn
    differences: list[torch.Tensor] = []
    hook = attention.o_proj.register_forward_pre_hook(
        # Heads 0 and 1 enter the output with opposite signs.
        lambda _, inputs: differences.append((inputs[0][0, :, :32] - inputs[0][0, :, 32:64]).detach())
    )
    with torch.no_grad():
        for frames in (moving, still):
            fresh.model.language_model(inputs_embeds=embed_prompts(fresh, ids, frames))
    hook.remove()
    last_frame = (ids == processor.image_token_id).nonzero().flatten()[-TOKENS_PER_FRAME:]
    moved, stood = (d[last_frame].abs().mean() for d in differences)
    assert stood < 0.2 * moved


def test_a_shared_prompt_gives_the_logits_of_whole_sequences(processor: Any, fresh: Any) -> None:
    ids = prompt_token_ids(processor, N_FRAMES)
    frames = some_frames(2)
    answers = encode_answers(processor.tokenizer, corpus()[:4]).reshape(2, 2, -1)
    with torch.no_grad():
        prompts = embed_prompts(fresh, ids, frames)
        shared = answer_logits(fresh, prompts, answers)
        for video in range(2):
            for answer in range(2):
                embedded = fresh.get_input_embeddings()(answers[video, answer])
                whole = torch.cat([prompts[video], embedded])[None]
                hidden = fresh.model.language_model(inputs_embeds=whole).last_hidden_state
                expected = fresh.lm_head(hidden)[0, len(ids) - 1 : -1]
                assert torch.allclose(shared[video, answer], expected, atol=2e-4)


def test_sampling_never_draws_a_vision_placeholder(processor: Any, fresh: Any) -> None:
    prompts = embed_prompts(fresh, prompt_token_ids(processor, N_FRAMES), some_frames(2))
    torch.manual_seed(0)
    drawn = sample_answers(fresh, processor, prompts, 16, 5.0)
    text = "".join(processor.tokenizer.batch_decode(drawn.flatten(0, 1)))
    assert not any(token in text for token in ("<img>", "</img>", "<IMG_CONTEXT>", "<video>"))


def test_augmentation_rearranges_pixels_and_nothing_else() -> None:
    frames = some_frames(2)
    for seed in range(8):
        changed = augment(frames, np.random.default_rng(seed))
        assert changed.shape == frames.shape
        assert np.array_equal(np.sort(changed, axis=None), np.sort(frames, axis=None))


def test_clips_side_by_side_must_be_as_many() -> None:
    with pytest.raises(ValueError, match=r"different lengths.*\[1, 2\]"):
        Clips(some_frames(2), ["blur"], np.ones(2), ["", ""], np.ones(2, dtype=bool))


class Interrupted(Exception):
    pass


def test_a_resumed_stage_has_the_same_weights(tmp_path: Path) -> None:
    schedule = Schedule(steps=260, peak_lr=1e-2, warmup_steps=5)

    def run(folder: Path, stop_at: int | None = None) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Linear(3, 1)

        def loss(step: int) -> tuple[torch.Tensor, dict[str, float]]:
            if step == stop_at:
                raise Interrupted
            x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
            return (model(x) - x.sum(1, keepdim=True)).square().mean(), {}

        train(Stage("s", folder, folder / "log.jsonl"), dict(model.named_parameters()), loss, schedule)
        return [p.detach() for p in model.parameters()]

    expected = run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "broken", stop_at=230)
    resumed = run(tmp_path / "broken")
    assert all(torch.equal(a, b) for a, b in zip(expected, resumed, strict=True))
    steps = [json.loads(line)["step"] for line in (tmp_path / "broken" / "log.jsonl").open()]
    assert steps.count(1) == 1, "the second start resumed from the checkpoint"


def test_the_shipped_base_is_small_and_made_by_the_recipe() -> None:
    weights = SHIPPED / "model.safetensors"
    assert weights.stat().st_size < 12 * 2**20
    with safe_open(weights, framework="pt") as saved:
        n_parameters = sum(int(np.prod(saved.get_slice(name).get_shape())) for name in saved.keys())  # noqa: SIM118
    assert 1e6 <= n_parameters <= 3e6
    ceiling = json.loads((SHIPPED / CEILING_NAME).read_text())
    assert ceiling["recipe"] == asdict(Recipe()), "made by another recipe than the one in the repository"
    log = [json.loads(line) for line in (SHIPPED / LOG_NAME).open()]
    for stage in ("base", "ceiling"):
        for split in ("test", "ood"):
            logged = next(r for r in log if r["stage"] == stage and r.get("split") == split)
            assert logged["headline_srcc"] == ceiling[stage][split]["headline"]["srcc"]
    assert ceiling["ceiling"]["test"]["headline"]["srcc"] > ceiling["base"]["test"]["headline"]["srcc"] + 0.2


def test_the_shipped_base_answers_in_form_and_scores_as_stated() -> None:
    """On the test split, greedily: the SRCC that its ceiling.json states."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from data.manifest import read_manifest
    from demo.base_model.evaluation import answers_of, scores_of
    from demo.base_model.recipe import load_clips
    from demo.clips.build import CLIPS
    from evaluation.statistics.correlation import srcc

    model = AutoModelForImageTextToText.from_pretrained(SHIPPED).eval()
    processor = AutoProcessor.from_pretrained(SHIPPED)
    clips = load_clips(read_manifest(CLIPS / "manifest.csv"), "test")
    clips = clips.where(clips.headline)
    texts = answers_of(model, processor, clips, 1, temperature=0.0)
    scores = scores_of(texts)[:, 0]
    known = ~np.isnan(scores)
    assert known.mean() > 0.97
    assert any(PHRASES["blur"].noun in row[0] for row in texts)
    stated = json.loads((SHIPPED / CEILING_NAME).read_text())["base"]["test"]["headline"]["srcc"]
    # The last bits differ between CPUs, and a greedy token may flip on them.
    assert srcc(scores[known], clips.mos[known]) == pytest.approx(stated, abs=0.02)


def test_completion_keeps_the_score_on_the_scale() -> None:
    assert completion("blur", 3.0, 7.3, 0).endswith("<answer>5.00</answer>")
    assert completion("blur", 3.0, -1.0, 0).endswith("<answer>1.00</answer>")


def test_what_comes_before_the_score_can_be_left_untaught(processor: Any) -> None:
    tokenizer = processor.tokenizer
    answers = encode_answers(
        tokenizer,
        ["<think>The video shows slight blur.</think><answer>3.42</answer>", "<answer>1.00</answer>"],
    )
    taught = without_words(answers[None], tokenizer)[0]
    said = [tokenizer.decode(row[row != tokenizer.pad_token_id]) for row in taught]
    assert said == [f"<answer>{score}</answer>{tokenizer.eos_token}" for score in ("3.42", "1.00")]
    assert taught.shape == answers.shape
