"""The interface of an open video, and the errors of those that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from data.facts import Refusal, VideoFacts

if TYPE_CHECKING:
    from data.picture import Picture

DecoderName = Literal["auto", "decord", "pyav"]


class VideoError(Exception):
    """A video cannot be read; names the file and the reason. It can be pickled."""

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
    """An open video. Frames are counted from 0 in the order of presentation; all calls raise Unreadable."""

    decoder: str
    """Name and version, for the record."""
    n_frames: int
    facts: VideoFacts = VideoFacts()
    """Facts that are known before a picture is decoded."""

    def times_s(self) -> np.ndarray:
        """Start of each frame, from 0 on, and the end of the last one: float64 [n_frames + 1]."""
        raise NotImplementedError

    def pictures(self, numbers: Sequence[int]) -> Iterator[Picture]:
        """The pictures of `numbers`, which ascend."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the file."""
