"""The frame settings and limits that a model was trained with, stored in its folder as `scoring.json`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from data.frame_tokens import FrameTokenSettings

FILE_NAME = "scoring.json"


class ModelViewError(ValueError):
    """A `scoring.json` cannot be used. The message names the file, the field and the fix."""


class ModelView(FrameTokenSettings):
    """Settings that a model was trained with. Other frames or sizes change its scores."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True)

    frames_per_video: int = Field(6, ge=1, le=256)
    """Number of frames per video: the middle frame of each of this many equal segments."""
    square_pixels: bool = True
    """Stretch frames with non-square pixels to square ones."""
    max_completion_tokens: int = Field(2048, ge=1)
    """Maximum length of an answer, in tokens. A longer one is truncated and has no score."""
    max_model_tokens: int = Field(8192, ge=16)
    """Maximum length of prompt and answer together, in tokens."""
    temperature: float = Field(1.0, gt=0)
    """Temperature of sampled answers."""


def view_of_run(config: Mapping[str, Any]) -> ModelView:
    """Return the view of a run's model. `config` is the run's resolved configuration, as read from its
    config.json."""
    data, rollout = config["data"], config["rollout"]
    return ModelView(
        **{name: data[name] for name in FrameTokenSettings.model_fields if name in data},
        frames_per_video=data["frames_per_video"],
        square_pixels=data.get("square_pixels", True),
        max_completion_tokens=config["evaluation"]["max_completion_tokens"]
        or rollout["max_completion_tokens"],
        max_model_tokens=rollout["max_model_tokens"],
        temperature=rollout["temperature"],
    )


def write_view(model_folder: Path, view: ModelView) -> None:
    (model_folder / FILE_NAME).write_text(view.model_dump_json(indent=2) + "\n")


def read_view(model_folder: Path) -> ModelView | None:
    """Read the view from a model's folder; None if it has no `scoring.json`. Raises ModelViewError."""
    path = model_folder / FILE_NAME
    try:
        return ModelView.model_validate_json(path.read_text())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ModelViewError(f"{path}: {field}: {first['msg']}; correct it, or remove the file") from None
