"""Settings that determine a frame's image tokens, shared by the engines, the learner and scoring.

A processor cuts a frame into tiles (InternVL) or resizes it within limits (Qwen-VL). The defaults differ
between transformers and vLLM, so every caller passes the result of `FrameTokens.image_options`.
"""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from data.errors import PermanentError


class FrameTokensError(PermanentError, ValueError):
    """The processor does not support a setting. The message names the setting and the fix."""


class FrameTokens(BaseModel):
    """Tiles and pixel limits per frame; `FrameTokenSettings` documents each. `largest_px` is the longer side
    of the largest expected frame, if known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tiles: int = Field(1, ge=1)
    min_pixels: int | None = Field(None, ge=1)
    max_pixels: int | None = Field(None, ge=1)
    largest_px: int | None = Field(None, ge=1)

    @property
    def most_images(self) -> int:
        """Maximum number of images per frame in the vision tower: the tiles, plus the whole frame if there
        are several tiles."""
        return 1 if self.tiles == 1 else self.tiles + 1

    def image_options(self, processor: Any) -> dict[str, Any]:
        """Return keyword arguments for calls of `processor`, for its image processor, and for vLLM's
        `mm_processor_kwargs`.

        Args:
            processor: a transformers processor (`AutoProcessor`).
        Raises:
            FrameTokensError: if tiles or pixel limits are set but the processor does not support them.
        """
        image_processor = getattr(processor, "image_processor", None)
        name = type(image_processor).__name__
        if image_processor is None:
            raise FrameTokensError(f"{type(processor).__name__} takes no images: choose a model that does")
        options: dict[str, Any] = {}
        if hasattr(image_processor, "crop_to_patches"):
            options["crop_to_patches"] = self.tiles > 1
            if self.tiles > 1:
                options |= {"min_patches": 1, "max_patches": self.tiles}
        elif self.tiles > 1:
            raise FrameTokensError(
                f"frame_tiles is {self.tiles}, but {name} does not cut frames into tiles: set it to 1"
            )
        if self.min_pixels is None and self.max_pixels is None:
            return options
        if not _limits_pixels(image_processor):
            raise FrameTokensError(
                f"frame_min_pixels or frame_max_pixels is set, but {name} resizes every frame to a size of "
                f"its own: remove them"
            )
        size = image_processor.size
        low = size["shortest_edge"] if self.min_pixels is None else self.min_pixels
        high = size["longest_edge"] if self.max_pixels is None else self.max_pixels
        if low > high:
            raise FrameTokensError(
                f"frame_min_pixels ({low}) is above frame_max_pixels ({high}), and one of them is the "
                f"checkpoint's own: set both"
            )
        return options | {"size": {"shortest_edge": low, "longest_edge": high}}


DEFAULT_FRAME_TOKENS = FrameTokens()


class FrameTokenSettings(BaseModel):
    """The settings of `FrameTokens`, as a base class for larger pydantic models."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    max_frame_px: int = Field(448, ge=28)
    """Maximum longer side of a decoded frame, in pixels. Larger frames are shrunk to it; none are
    enlarged."""
    frame_tiles: int = Field(1, ge=1)
    """Maximum number of tiles per frame, for model families with tiles (InternVL). With 1 the whole frame is
    one image. Above 1 the model gets the tiles and also the whole frame."""
    frame_min_pixels: int | None = Field(None, ge=1)
    """Minimum number of pixels (width x height) of a frame, for model families with such limits (Qwen-VL).
    Smaller frames are enlarged to it. Default: the checkpoint's value."""
    frame_max_pixels: int | None = Field(None, ge=1)
    """Maximum number of pixels (width x height) of a frame, for model families with such limits (Qwen-VL).
    Larger frames are shrunk to it. Default: the checkpoint's value."""

    @model_validator(mode="after")
    def _limits_in_order(self) -> Self:
        low, high = self.frame_min_pixels, self.frame_max_pixels
        if low is not None and high is not None and low > high:
            raise ValueError(f"frame_min_pixels ({low}) is above frame_max_pixels ({high})")
        return self

    @property
    def frame_tokens(self) -> FrameTokens:
        return FrameTokens(
            tiles=self.frame_tiles,
            min_pixels=self.frame_min_pixels,
            max_pixels=self.frame_max_pixels,
            largest_px=self.max_frame_px,
        )


def _limits_pixels(image_processor: Any) -> bool:
    """Return True if the edges in the processor's `size` are pixel counts, as in Qwen-VL. In other processors
    they are lengths."""
    valid = getattr(image_processor, "valid_kwargs", None)
    return valid is not None and "max_pixels" in valid.__annotations__
