"""The interface of an open video, and the errors for videos that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from data.facts import Refusal, VideoFacts

if TYPE_CHECKING:
    from data.picture import Picture

DecoderName = Literal["auto", "decord", "pyav"]


class VideoError(Exception):
    """A video cannot be read. The message names the file and the reason. It can be pickled."""

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
    """An open video. Frames are numbered from 0 in presentation order. All methods may raise Unreadable."""

    decoder: str
    """Name and version of the decoder, for records."""
    n_frames: int
    facts: VideoFacts = VideoFacts()
    """Facts that are known without decoding a picture."""

    def times_s(self) -> np.ndarray:
        """Return the start time of each frame, from 0, and the end of the last frame: float64 [n_frames +
        1]."""
        raise NotImplementedError

    def pictures(self, numbers: Sequence[int]) -> Iterator[Picture]:
        """Yield the pictures with these `numbers`, which must ascend."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the file."""
