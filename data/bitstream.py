"""What the first bytes of a packet tell without a decoder."""

from collections.abc import Iterator

_NAL_LENGTH_AT = {"h264": 4, "hevc": 21}
"""Where the decoder's configuration record says how many bytes the length of a NAL unit has."""

_START_CODE = b"\0\0\1"

_IDR = {"h264": (5,), "hevc": (19, 20)}


def is_shown(content: memoryview, codec: str) -> bool:
    """Whether a picture is shown for the packet: VP8 and VP9 have some that others refer to alone."""
    if codec == "vp8":
        return bool(content[0] & 0x10)
    if codec == "vp9":
        return any(_vp9_is_shown(frame[0]) for frame in _vp9_frames(content) if frame)
    return True


def is_clean_start(content: memoryview, codec: str, record: bytes) -> bool:
    """Whether nothing behind a key frame needs what is before it.

    In H.264 and HEVC only an IDR picture is sure to have nothing (open GOPs and intra refresh have no other).
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
    """The NAL units, whose lengths are stored in `width` bytes before them; 0: start codes are between."""
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
    """The frames of a superframe, whose index is at its end; else all as one frame."""
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
    """Of the uncompressed header: marker, profile (a bit more in profile 3), show_existing_frame, frame_type,
    show_frame."""
    profile = (header >> 5 & 1) | (header >> 4 & 1) << 1
    bits = header << (profile == 3)
    show_existing, show = bits & 0x08, bits & 0x02
    return bool(show_existing or show)
