"""Finds damaged pictures from the decoder's reports on packets and pictures."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SentPacket:
    """A packet in decoding order. `failed`: the packet was damaged, or the decoder found an error in it."""

    pts: Any
    is_key: bool
    failed: bool


@dataclass(frozen=True, slots=True)
class ShownPicture:
    """A picture in presentation order. `flagged`: the decoder reports it as corrupt."""

    pts: Any
    flagged: bool


def damaged_pictures(packets: Sequence[SentPacket], pictures: Sequence[ShownPicture]) -> set[int]:
    """Return the numbers of pictures that were decoded with errors, or that may refer to such pictures.

    A picture may refer to everything decoded since its key frame. That is the last key frame that was sent
    before the picture and is not shown after it.
    """
    sent_at = {packet.pts: at for at, packet in reversed(list(enumerate(packets))) if packet.pts is not None}
    positions = [min(sent_at.get(p.pts, number), len(packets) - 1) for number, p in enumerate(pictures)]
    faults = {at for at, packet in enumerate(packets) if packet.failed}
    faults |= {at for at, picture in zip(positions, pictures, strict=True) if picture.flagged}
    if not faults:
        return set()
    keys = [at for at, packet in enumerate(packets) if packet.is_key]
    ordered = sorted(faults)

    def is_damaged(picture: ShownPicture, at: int) -> bool:
        before = bisect_right(ordered, at)
        return before > 0 and ordered[before - 1] >= _start(picture, at)

    def _start(picture: ShownPicture, at: int) -> int:
        for key in reversed(keys[: bisect_right(keys, at)]):
            if None in (picture.pts, packets[key].pts) or packets[key].pts <= picture.pts:
                return key
        return 0

    return {
        n for n, (at, picture) in enumerate(zip(positions, pictures, strict=True)) if is_damaged(picture, at)
    }
