"""What a checkpoint cannot do is found out without an engine."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, Gemma3Config, Gemma4Config

from cluster.config import load_config
from cluster.planning.published import PUBLISHED_FOLDER, folder_name, published_names
from cluster.preflight import check_model
from data.errors import PermanentError
from data.frame_tokens import FrameTokens
from data.model_check import ModelRefused, load_checked, require_trainable
from runtime.errors import ConfigError


def copy(model: Path, to: Path) -> Path:
    return Path(shutil.copytree(model, to / "copy"))


def test_a_length_beyond_the_models(internvl: Path) -> None:
    assert load_checked(str(internvl), False, FrameTokens(), 4096).image_options == {"crop_to_patches": False}
    with pytest.raises(ModelRefused, match=r"is 4097, but .* supports 4096 tokens: lower it"):
        load_checked(str(internvl), False, FrameTokens(), 4097)


def test_a_processor_that_is_refused(internvl: Path, tmp_path: Path) -> None:
    model = copy(internvl, tmp_path)
    (model / "chat_template.jinja").unlink()
    with pytest.raises(PermanentError, match="chat template"):
        load_checked(str(model), False, FrameTokens(), 512)
    config = model / "processor_config.json"
    config.write_text(config.read_text().replace("GotOcr2ImageProcessor", "NoSuchImageProcessor"))
    with pytest.raises(PermanentError, match=r"model\.path: transformers cannot load"):
        load_checked(str(model), False, FrameTokens(), 512)


def test_a_run_asks_before_any_actor_starts(internvl: Path) -> None:
    """In a process of its own, whose errors are the user's."""
    with pytest.raises(ConfigError, match=r"rollout\.max_model_tokens is 8192"):
        check_model(load_config(None, [f"--model.path={internvl}"]))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (Gemma3Config(), "type 'gemma3' cannot be trained: .* name the weights"),
        (Gemma4Config(), "type 'gemma4' cannot be trained: it caps its logits"),
    ],
    ids=["gemma3", "gemma4"],
)
def test_families_that_cannot_be_trained_are_refused(config: Any, reason: str) -> None:
    config.get_text_config().final_logit_softcapping = 30.0 if config.model_type == "gemma4" else None
    with pytest.raises(ModelRefused, match=reason):
        require_trainable(config)


def test_tested_families_are_not_refused() -> None:
    for name in published_names():
        require_trainable(AutoConfig.from_pretrained(PUBLISHED_FOLDER / folder_name(name)))
