"""Decoded frames of videos that are evaluated again and again, kept by reference between evaluations."""

import math
from collections.abc import Container
from typing import Protocol

import ray

from data.frames import FrameInfo
from data.records import VideoRef


class Decodes(Protocol):
    """Of `data.decode.Decoder`."""

    async def look(self, ref: VideoRef) -> tuple[FrameInfo, ray.ObjectRef]: ...


class KeptFrames:
    """Decodes videos, and keeps references to the frames of those that are wanted again.

    Frames are kept as they come, until `budget_bytes` of them are kept; all others are decoded at every
    evaluation. To drop the oldest instead would keep nothing: videos come in the same order every time.

    Args:
        wanted: ids of the videos to keep.
    """

    def __init__(self, decoder: Decodes, wanted: Container[str], budget_bytes: int) -> None:
        self._decoder = decoder
        self._wanted = wanted
        self._free_bytes = budget_bytes
        self._kept: dict[VideoRef, tuple[FrameInfo, ray.ObjectRef]] = {}

    def __contains__(self, ref: VideoRef) -> bool:
        return ref in self._kept

    async def look(self, ref: VideoRef) -> tuple[FrameInfo, ray.ObjectRef]:
        """As `Decoder.look`."""
        if ref in self._kept:
            return self._kept[ref]
        found = await self._decoder.look(ref)
        size = frame_bytes(found[0])
        if ref.video_id in self._wanted and ref not in self._kept and size <= self._free_bytes:
            self._free_bytes -= size
            self._kept[ref] = found
        return found

    def forget(self, ref: VideoRef) -> None:
        """Decode this video again next time: its frames may be lost with the node that held them."""
        info, _ = self._kept.pop(ref)
        self._free_bytes += frame_bytes(info)


def frame_bytes(info: FrameInfo) -> int:
    """Of the frames that were handed on, uint8 [T, H, W, 3]."""
    return 3 * len(info.indices) * math.prod(info.px)
