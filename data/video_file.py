"""A video file as the decoders see it, and how they refuse one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from data.facts import Refusal, VideoFacts

if TYPE_CHECKING:
    from data.picture import Picture

DecoderName = Literal["auto", "decord", "pyav"]


class VideoError(Exception):
    """A video cannot be read; says which and why. Travels between processes."""

    def __init__(self, path: str, reason: str, kind: Refusal = "unreadable") -> None:
        super().__init__(path, reason, kind)
        self.path = path
        self.reason = reason
        self.kind: Refusal = kind

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Unreadable(Exception):
    """A decoder's reason for refusing a file."""

    def __init__(self, reason: str, kind: Refusal = "unreadable") -> None:
        super().__init__(reason)
        self.kind: Refusal = kind


class OpenVideo:
    """A file as a decoder sees it. Frames are counted from 0 in the order of presentation; the calls raise
    Unreadable."""

    decoder: str
    """Name and version, for the record."""
    n_frames: int
    facts: VideoFacts = VideoFacts()
    """What is known before a picture is decoded."""

    def times_s(self) -> np.ndarray:
        """When each frame is shown, from 0 on, and when the last one ends: float64 [n_frames + 1]."""
        raise NotImplementedError

    def pictures(self, numbers: Sequence[int]) -> Iterator[Picture]:
        """The pictures of `numbers`, which ascend."""
        raise NotImplementedError

    def close(self) -> None:
        """Free what the decoder holds; most hold nothing."""
