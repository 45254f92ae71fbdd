"""Sizes that the steps run at: on a GPU those of published models, on a CPU tiny ones. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

Kind = Literal["internvl", "qwen3_vl"]
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What of a random model differs between sizes; its kind decides all else. Outputs of the vision layers
    `deepstack` go into the text model, in Qwen3-VL alone."""

    hidden: int
    layers: int
    mlp: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    vision_hidden: int
    vision_layers: int
    vision_mlp: int
    vision_heads: int
    frame_px: int
    deepstack: tuple[int, ...] = ()
    tied: bool = False


@dataclass(frozen=True, slots=True)
class AttentionSize:
    heads: int
    kv_heads: int
    head_dim: int
    prompts: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]
    """Lengths of the answers of one group."""


@dataclass(frozen=True, slots=True)
class UpdateSize:
    """An update on `videos` groups of `completions` answers of `answer_tokens` to `frames` frames."""

    videos: int
    frames: int
    completions: int
    answer_tokens: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of one run of all steps. `small` models are whole, of about 1B parameters; `wide` has the widths of
    InternVL3-8B in few layers."""

    attention: AttentionSize
    small: dict[Kind, ModelSize]
    wide: ModelSize
    update: UpdateSize
    memory_tokens: int
    """Of one micro-batch, for the peak of memory."""
    speed: UpdateSize
    varied: dict[str, tuple[UpdateSize, ...]]
    fewer_layers: int
    timed_updates: int
    matmul: int
    """Edge of the square matrices whose product says what the card can do."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and at which sizes the steps run. `folder` holds the models that they make."""

    device: Device
    tiny: bool
    folder: Path

    @property
    def sizes(self) -> Sizes:
        return TINY if self.tiny else FULL


# InternVL3-1B and Qwen3-VL-2B as published, the latter in 8 of its 28 layers.
_SMALL: dict[Kind, ModelSize] = {
    "internvl": ModelSize(896, 24, 4864, 14, 2, 64, 151_674, 1024, 24, 4096, 16, 448),
    "qwen3_vl": ModelSize(2048, 8, 6144, 16, 8, 128, 151_936, 1024, 24, 4096, 16, 448, (5, 11, 17), True),
}
# InternVL3-8B in 4 of 28 text layers and 4 of 24 vision layers.
_WIDE = ModelSize(3584, 4, 18_944, 28, 4, 128, 151_674, 1024, 4, 4096, 16, 448)
_SPEED = UpdateSize(videos=8, frames=5, completions=8, answer_tokens=200)

FULL = Sizes(
    attention=AttentionSize(
        28, 4, 128, (1784, 3000), ((200,) * 8, (200, 464, 728, 992, 1256, 1520, 1784, 2048), (2048,) * 8)
    ),
    small=_SMALL,
    wide=_WIDE,
    update=UpdateSize(videos=3, frames=6, completions=4, answer_tokens=120),
    memory_tokens=16_384,
    speed=_SPEED,
    varied={
        "G": (replace(_SPEED, completions=4), replace(_SPEED, completions=16)),
        "prompt": (replace(_SPEED, frames=2), replace(_SPEED, frames=10)),
        "answer": (replace(_SPEED, answer_tokens=50), replace(_SPEED, answer_tokens=800)),
    },
    fewer_layers=2,
    timed_updates=2,
    matmul=8192,
)

_TINY_SPEED = UpdateSize(videos=2, frames=2, completions=2, answer_tokens=5)
TINY = Sizes(
    attention=AttentionSize(7, 1, 16, (40, 65), ((5,) * 3, (5, 9, 20))),
    small={
        "internvl": ModelSize(64, 2, 128, 2, 1, 32, 512, 64, 2, 128, 2, 56),
        "qwen3_vl": ModelSize(64, 2, 128, 2, 1, 32, 512, 64, 2, 128, 2, 64, (0,), True),
    },
    wide=ModelSize(64, 2, 128, 2, 1, 32, 512, 64, 1, 128, 2, 56),
    update=UpdateSize(videos=2, frames=2, completions=3, answer_tokens=6),
    memory_tokens=1024,
    speed=_TINY_SPEED,
    varied={
        "G": (replace(_TINY_SPEED, completions=3),),
        "prompt": (replace(_TINY_SPEED, frames=3),),
        "answer": (replace(_TINY_SPEED, answer_tokens=9),),
    },
    fewer_layers=1,
    timed_updates=1,
    matmul=256,
)
