"""How a frame becomes tokens: one decision, the same for engine and learner."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from cluster.config import load_config
from data.frame_tokens import FrameTokens, FrameTokensError
from data.model_view import view_of_run, write_view
from data.prompt import prompt_text
from evaluation.models import resolve_checkpoint, scoring_settings
from rollout.config import RolloutConfig
from tests.checkpoints import Kind, make_checkpoint

N_FRAMES = 3
SHAPES = {"16:9": (90, 160), "9:16": (160, 90), "tiny": (20, 20), "large 16:9": (252, 448)}


class ResizedOnly:
    """An image processor that brings every frame to one size."""

    size: Mapping[str, int] = {"height": 56, "width": 56}


class Tiled(ResizedOnly):
    crop_to_patches = False


class PixelLimited:
    class valid_kwargs:
        min_pixels: int
        max_pixels: int

    size: Mapping[str, int] = {"shortest_edge": 3136, "longest_edge": 1_003_520}


def options(tokens: FrameTokens, image_processor: Any) -> dict[str, Any]:
    return tokens.image_options(SimpleNamespace(image_processor=image_processor))


def test_what_a_processor_is_asked_for() -> None:
    assert options(FrameTokens(), ResizedOnly()) == {}
    assert options(FrameTokens(), Tiled()) == {"crop_to_patches": False}
    assert options(FrameTokens(tiles=6), Tiled()) == {
        "crop_to_patches": True,
        "min_patches": 1,
        "max_patches": 6,
    }
    assert options(FrameTokens(), PixelLimited()) == {}
    limits = {"shortest_edge": 3136, "longest_edge": 200_704}
    assert options(FrameTokens(max_pixels=200_704), PixelLimited()) == {"size": limits}
    assert [FrameTokens(tiles=n).most_images for n in (1, 2, 12)] == [1, 3, 13]


@pytest.mark.parametrize(
    ("tokens", "image_processor", "message"),
    [
        (FrameTokens(tiles=2), PixelLimited(), "frame_tiles is 2, but PixelLimited .* set it to 1"),
        (FrameTokens(min_pixels=1), Tiled(), "frame_min_pixels or frame_max_pixels .* remove them"),
        (FrameTokens(max_pixels=100), PixelLimited(), r"frame_min_pixels \(3136\) is above .*: set both"),
        (FrameTokens(), None, "SimpleNamespace takes no images"),
    ],
)
def test_what_a_processor_cannot_do(tokens: FrameTokens, image_processor: Any, message: str) -> None:
    with pytest.raises(FrameTokensError, match=message):
        options(tokens, image_processor)


def test_the_settings_travel_with_the_model(tmp_path: Path) -> None:
    config = load_config(None, ["--data.frame_tiles=3", "--data.frame_max_pixels=50000"])
    assert config.data.frame_tokens == FrameTokens(tiles=3, max_pixels=50_000, largest_px=448)
    (tmp_path / "config.json").write_text('{"model_type": "internvl"}')
    write_view(tmp_path, view_of_run(config.model_dump()))
    checkpoint = resolve_checkpoint(str(tmp_path))
    assert scoring_settings(checkpoint).frame_tokens == config.data.frame_tokens
    with pytest.raises(ValidationError, match=r"frame_min_pixels \(9\) is above frame_max_pixels \(8\)"):
        type(config.data)(frame_min_pixels=9, frame_max_pixels=8)


@pytest.mark.engine
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("kind", "tokens", "differs"),
    [
        ("internvl", FrameTokens(), False),
        ("internvl", FrameTokens(tiles=4), True),
        ("qwen3_vl", FrameTokens(max_pixels=32 * 32 * 8), True),
    ],
)
def test_vllm_makes_the_learners_prompt_of_any_frame(
    kind: Kind, tokens: FrameTokens, differs: bool, tmp_path: Path
) -> None:
    """vLLM's own input processing, without a model: frames of many shapes, tiles and pixel limits."""
    from transformers import AutoProcessor
    from vllm import EngineArgs
    from vllm.renderers import renderer_from_config

    from learner.inputs import GroupEncoder
    from rollout.engine_arguments import EngineSettings
    from rollout.engines import make_engine

    model = make_checkpoint(kind, tmp_path)
    processor = AutoProcessor.from_pretrained(model)
    rollout = RolloutConfig(max_completion_tokens=12, max_model_tokens=2048)
    engine = make_engine(EngineSettings(str(model), N_FRAMES, rollout, seed=0, frame_tokens=tokens))
    renderer = renderer_from_config(EngineArgs(**engine.arguments).create_engine_config())
    encoder, plain = GroupEncoder(processor, tokens), GroupEncoder(processor)
    changed = False
    for height, width in SHAPES.values():
        pictures = [Image.fromarray(np.zeros((height, width, 3), np.uint8)) for _ in range(N_FRAMES)]
        prompt = {"prompt": prompt_text(processor, N_FRAMES), "multi_modal_data": {"image": pictures}}
        (rendered,) = renderer.render_cmpl([prompt])
        assert rendered["prompt_token_ids"] == encoder.prompt_ids(pictures)
        changed |= encoder.prompt_ids(pictures) != plain.prompt_ids(pictures)
    assert changed == differs
