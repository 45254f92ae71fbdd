"""What a checkpoint cannot do is found out without an engine."""

import shutil
from pathlib import Path

import pytest

from cluster.config import load_config
from cluster.preflight import check_model
from data.errors import PermanentError
from data.frame_tokens import FrameTokens
from data.model_check import ModelRefused, load_checked
from runtime.errors import ConfigError


def copy(model: Path, to: Path) -> Path:
    return Path(shutil.copytree(model, to / "copy"))


def test_a_length_beyond_the_models(internvl: Path) -> None:
    assert load_checked(str(internvl), False, FrameTokens(), 4096).image_options == {"crop_to_patches": False}
    with pytest.raises(ModelRefused, match=r"rollout\.max_model_tokens is 4097.* for 4096 tokens: lower it"):
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
