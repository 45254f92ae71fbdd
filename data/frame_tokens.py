"""How a frame becomes tokens, decided in one place for engines, learner and scoring.

A processor cuts a frame into tiles (InternVL) or resizes it within limits (Qwen-VL), and its defaults differ
between transformers and vLLM. So every caller passes what `FrameTokens.image_options` returns.
"""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from data.errors import PermanentError


class FrameTokensError(PermanentError, ValueError):
    """A processor without support for a setting; names the setting and the fix."""


class FrameTokens(BaseModel):
    """Tiles and pixel limits of one frame; `FrameTokenSettings` explains each. `largest_px` is the longer
    side of the largest expected frames, if known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tiles: int = Field(1, ge=1)
    min_pixels: int | None = Field(None, ge=1)
    max_pixels: int | None = Field(None, ge=1)
    largest_px: int | None = Field(None, ge=1)

    @property
    def most_images(self) -> int:
        """The most images that the vision tower sees of one frame: its tiles, and with several tiles the
        whole frame, too."""
        return 1 if self.tiles == 1 else self.tiles + 1

    def image_options(self, processor: Any) -> dict[str, Any]:
        """Keyword arguments for calls of `processor`, for its image processor, and for vLLM's
        `mm_processor_kwargs`.

        Args:
            processor: a transformers processor (`AutoProcessor`).
        Raises:
            FrameTokensError: if the processor has no tiles or no pixel limits and these are set.
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
    """The settings of `FrameTokens`, as part of a larger model."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    max_frame_px: int = Field(448, ge=28)
    """Shrink frames whose longer side exceeds this to it when decoding (frames are never enlarged)."""
    frame_tiles: int = Field(1, ge=1)
    """The most tiles that a frame is cut into, for families with tiles (InternVL). 1 shows the whole frame as
    one image; above 1 the whole frame is shown beside its tiles."""
    frame_min_pixels: int | None = Field(None, ge=1)
    """Enlarge frames of fewer pixels (width x height) to this, for families with such limits (Qwen-VL);
    default: the checkpoint's own."""
    frame_max_pixels: int | None = Field(None, ge=1)
    """Shrink frames of more pixels (width x height) to this, for families with such limits (Qwen-VL);
    default: the checkpoint's own."""

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
    """Whether the edges of the processor's `size` are pixel counts, as in Qwen-VL; elsewhere they are
    lengths."""
    valid = getattr(image_processor, "valid_kwargs", None)
    return valid is not None and "max_pixels" in valid.__annotations__
