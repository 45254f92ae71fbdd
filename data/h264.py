"""Finds H.264 packets that hold the second field of a picture, by parsing parameter sets and slice
headers."""

from collections.abc import Iterator
from dataclasses import dataclass

from data.bitstream import nal_units

_SLICES = (1, 5)  # NAL unit types: slice of a non-IDR picture, slice of an IDR picture
_SPS = 7
_WITH_CHROMA_FORMAT = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
_HEADER_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class _Sps:
    frames_only: bool
    frame_number_bits: int
    separate_planes: bool


class FieldPairs:
    """Detects packets that hold the second field of a picture. Call it for each packet in decoding order."""

    def __init__(self, record: bytes) -> None:
        """Parse `record`, the decoder's configuration, in the format of MP4 and Matroska or with start codes.
        Raises ValueError if it contains no parameter set."""
        self._width = (record[4] & 3) + 1 if len(record) > 6 and record[0] == 1 else 0
        units = _listed(record) if self._width else nal_units(record, 0)
        sets = [_sps(unit) for unit in units if unit[0] & 31 == _SPS]
        if not sets:
            raise ValueError("no sequence parameter set")
        self._sps = sets[0]
        self._first: tuple[int, bool] | None = None

    def is_second(self, content: memoryview) -> bool:
        if self._sps.frames_only:
            return False
        field = self._field(bytes(content[:_HEADER_BYTES]))
        number, is_bottom = field or (0, False)
        if field and self._first == (number, not is_bottom):
            self._first = None
            return True
        self._first = field
        return False

    def _field(self, content: bytes) -> tuple[int, bool] | None:
        """Return (frame number, True for the bottom field) of a packet with one field; None for other
        packets."""
        slice_ = next((unit for unit in nal_units(content, self._width) if unit[0] & 31 in _SLICES), None)
        if slice_ is None:
            return None
        bits = _Bits(slice_[1:64])
        bits.skip_ue(3)
        bits.u(2 if self._sps.separate_planes else 0)
        number = bits.u(self._sps.frame_number_bits)
        return (number, bool(bits.u(1))) if bits.u(1) else None


class _Bits:
    def __init__(self, content: bytes) -> None:
        plain = content.replace(b"\0\0\3", b"\0\0")
        self._bits = "".join(format(byte, "08b") for byte in plain)
        self._at = 0

    def u(self, bits: int) -> int:
        self._at += bits
        return int(self._bits[self._at - bits : self._at] or "0", 2)

    def ue(self) -> int:
        zeros = self._bits.find("1", self._at) - self._at
        if zeros < 0:
            raise ValueError("a parameter set that ends early")
        self._at += zeros
        return self.u(zeros + 1) - 1

    def skip_ue(self, count: int) -> None:
        for _ in range(count):
            self.ue()


def _sps(unit: bytes) -> _Sps:
    bits = _Bits(unit[1:])
    profile = bits.u(8)
    bits.u(16)
    bits.skip_ue(1)
    separate_planes = False
    if profile in _WITH_CHROMA_FORMAT:
        chroma_format = bits.ue()
        separate_planes = chroma_format == 3 and bool(bits.u(1))
        bits.skip_ue(2)
        bits.u(1)
        if bits.u(1):
            _skip_scaling_lists(bits, 12 if chroma_format == 3 else 8)
    frame_number_bits = bits.ue() + 4
    order_type = bits.ue()
    if order_type == 0:
        bits.skip_ue(1)
    elif order_type == 1:
        bits.u(1)
        bits.skip_ue(2)
        bits.skip_ue(bits.ue())
    bits.skip_ue(1)
    bits.u(1)
    bits.skip_ue(2)
    return _Sps(bool(bits.u(1)), frame_number_bits, separate_planes)


def _skip_scaling_lists(bits: _Bits, count: int) -> None:
    for number in range(count):
        if not bits.u(1):
            continue
        scale = 8
        for _ in range(16 if number < 6 else 64):
            code = bits.ue()
            scale = (scale + (code + 1) // 2 * (1 if code % 2 else -1)) % 256
            if scale == 0:
                break


def _listed(record: bytes) -> Iterator[bytes]:
    """Yield the sequence parameter sets of a configuration record."""
    at = 6
    for _ in range(record[5] & 31):
        size = int.from_bytes(record[at : at + 2], "big")
        if size:
            yield record[at + 2 : at + 2 + size]
        at += 2 + size
