"""Clips in memory, for training and evaluating the tiny base model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Clips:
    """`n` clips; each field has one entry per clip.

    Attributes:
        frames: uint8 [n, N_FRAMES, FRAME_PX, FRAME_PX, 3].
        kinds: the distortion of each clip.
        mos: float64 [n], 1 to 5.
        sources: the source content of each clip, which intervals are bootstrapped over; empty if unknown.
        headline: bool [n], whether the clip counts in the headline figures.
    """

    frames: np.ndarray
    kinds: list[str]
    mos: np.ndarray
    sources: list[str]
    headline: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    def __post_init__(self) -> None:
        lengths = {len(self.frames), len(self.kinds), len(self.mos), len(self.sources), len(self.headline)}
        if len(lengths) != 1:
            raise ValueError(f"the fields of Clips have different lengths: {sorted(lengths)}")

    def where(self, keep: np.ndarray | Sequence[bool]) -> Clips:
        """Select the clips for which `keep` [n] is true."""
        index = np.flatnonzero(np.asarray(keep))
        return Clips(
            self.frames[index],
            [self.kinds[i] for i in index],
            self.mos[index],
            [self.sources[i] for i in index],
            self.headline[index],
        )


def augment(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Randomly flip and transpose frames and permute their colours, which leaves the quality unchanged. All
    frames are changed in the same way.

    Args:
        frames: uint8 [..., height, width, 3], with equal height and width.
    """
    if rng.random() < 0.5:
        frames = frames[..., :, ::-1, :]
    if rng.random() < 0.5:
        frames = frames[..., ::-1, :, :]
    if rng.random() < 0.5:
        frames = np.swapaxes(frames, -3, -2)
    if rng.random() < 0.3:
        frames = frames[..., rng.permutation(3)]
    return frames
