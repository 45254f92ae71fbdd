"""Reads properties of a packet from its first bytes, without a decoder."""

from collections.abc import Iterator

_NAL_LENGTH_AT = {"h264": 4, "hevc": 21}
"""Offset, in the decoder's configuration record, of the byte that holds the width of a NAL unit's length
field."""

_START_CODE = b"\0\0\1"

_IDR = {"h264": (5,), "hevc": (19, 20)}


def is_shown(content: memoryview, codec: str) -> bool:
    """Return True if the packet shows a picture. In VP8 and VP9 some packets are only references for
    others."""
    if codec == "vp8":
        return bool(content[0] & 0x10)
    if codec == "vp9":
        return any(_vp9_is_shown(frame[0]) for frame in _vp9_frames(content) if frame)
    return True


def is_clean_start(content: memoryview, codec: str, record: bytes) -> bool:
    """Return True if no picture after this key frame refers to a picture before it.

    In H.264 and HEVC only an IDR picture guarantees that. Open GOPs and intra refresh have other key frames.
    `record` is the decoder's configuration record, as MP4 and Matroska store it.
    """
    if codec not in _IDR:
        return True
    at = _NAL_LENGTH_AT[codec]
    if len(record) <= at or record[0] != 1:
        return False
    types = (
        unit[0] & 31 if codec == "h264" else unit[0] >> 1 & 63
        for unit in nal_units(bytes(content), (record[at] & 3) + 1)
    )
    return any(kind in _IDR[codec] for kind in types)


def nal_units(content: bytes, width: int) -> Iterator[bytes]:
    """Split a packet into NAL units. Each one is preceded by its length in `width` bytes, or by a start code
    if `width` is 0."""
    if width:
        at = 0
        while at + width < len(content):
            size = int.from_bytes(content[at : at + width], "big")
            yield content[at + width : at + width + size] or b"\0"
            at += width + size
        return
    at = content.find(_START_CODE)
    while at >= 0:
        end = content.find(_START_CODE, at + 3)
        yield content[at + 3 : end if end >= 0 else None] or b"\0"
        at = end


def _vp9_frames(content: memoryview) -> Iterator[memoryview]:
    """Split a superframe by the index at its end. Any other content is a single frame."""
    marker = content[-1]
    count, width = (marker & 7) + 1, (marker >> 3 & 3) + 1
    index = 2 + width * count
    if marker >> 5 != 0b110 or len(content) < index or content[-index] != marker:
        yield content
        return
    start = 0
    for number in range(count):
        at = len(content) - index + 1 + width * number
        size = int.from_bytes(content[at : at + width], "little")
        yield content[start : start + size]
        start += size


def _vp9_is_shown(header: int) -> bool:
    """Return True if a frame is shown. `header` is the first byte of its header: the marker, the profile (one
    more bit in profile 3), show_existing_frame, frame_type and show_frame."""
    profile = (header >> 5 & 1) | (header >> 4 & 1) << 1
    bits = header << (profile == 3)
    show_existing, show = bits & 0x08, bits & 0x02
    return bool(show_existing or show)
