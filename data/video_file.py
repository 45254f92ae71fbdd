"""A video file as the decoders see it, and how they refuse one."""

from typing import Literal, Protocol

import numpy as np

DecoderName = Literal["auto", "decord", "pyav"]


class VideoError(Exception):
    """A video cannot be read; says which and why. Travels between processes."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Unreadable(Exception):
    """A decoder's reason for refusing a file."""


class OpenVideo(Protocol):
    """A file as a decoder sees it. Frames are counted from 0 in the order of presentation; the calls raise
    Unreadable."""

    decoder: str
    """Name and version, for the record."""
    n_frames: int

    def times_s(self) -> np.ndarray:
        """When each frame is shown, from 0 on, and when the last one ends: float64 [n_frames + 1]."""
        ...

    def frames(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [n, height, width, 3], RGB, upright."""
        ...

    def close(self) -> None: ...
