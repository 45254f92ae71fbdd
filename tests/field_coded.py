"""H.264 of which each picture is two fields, coded one after the other, as camcorders write it.

No encoder at hand writes it, so these are bits by hand: main profile, macroblocks stored as they are (I_PCM).
"""

import numpy as np

_MB = 16
_START_CODE = b"\0\0\0\1"


class _Bits:
    def __init__(self) -> None:
        self._text = ""
        self._bytes = bytearray()

    def u(self, value: int, bits: int) -> None:
        self._text += format(value, f"0{bits}b")

    def ue(self, *values: int) -> None:
        """Exp-Golomb codes."""
        for value in values:
            code = format(value + 1, "b")
            self._text += "0" * (len(code) - 1) + code

    def align(self) -> None:
        self._text += "0" * (-len(self._text) % 8)
        self._bytes += bytes(int(self._text[i : i + 8], 2) for i in range(0, len(self._text), 8))
        self._text = ""

    def raw(self, content: bytes) -> None:
        self.align()
        self._bytes += content

    def nal(self, header: int) -> bytes:
        """The unit with its stop bit, and bytes put in where a start code would be read."""
        self.u(1, 1)
        self.align()
        escaped, zeros = bytearray(), 0
        for byte in self._bytes:
            if zeros == 2 and byte <= 3:
                escaped.append(3)
                zeros = 0
            escaped.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return _START_CODE + bytes([header]) + bytes(escaped)


def field_coded(frames: list[tuple[np.ndarray, np.ndarray, np.ndarray]], key_every: int) -> list[bytes]:
    """The access units, two a frame, of planes Y, Cb and Cr in 4:2:0 whose height is a multiple of 32."""
    height, width = frames[0][0].shape
    units = []
    for number, planes in enumerate(frames):
        since_key = number % key_every
        for bottom in (0, 1):
            is_idr = since_key == 0 and not bottom
            fields = [np.ascontiguousarray(plane[bottom::2]) for plane in planes]
            unit = _slice(fields, since_key, bottom, is_idr, number // key_every % 2)
            units.append(_parameters(height, width) + unit if is_idr else unit)
    return units


def _parameters(height: int, width: int) -> bytes:
    sps = _Bits()
    sps.u(77, 8)
    sps.u(0, 8)
    sps.u(30, 8)
    # Id 0, frame numbers of 8 bits, pictures shown in their order, one to refer to.
    sps.ue(0, 4, 2, 1)
    sps.u(0, 1)
    sps.ue(width // _MB - 1, height // (2 * _MB) - 1)
    # Not frames alone, no mixture within a picture, as level 3 asks; neither cropped nor with more to say.
    sps.u(0b00100, 5)
    pps = _Bits()
    pps.ue(0, 0)
    pps.u(0, 2)
    pps.ue(0, 0, 0)
    pps.u(0, 3)
    pps.ue(0, 0, 0)
    pps.u(0b100, 3)
    return sps.nal(0x67) + pps.nal(0x68)


def _slice(planes: list[np.ndarray], frame_number: int, bottom: int, is_idr: bool, idr_id: int) -> bytes:
    bits = _Bits()
    # The first macroblock; all slices are I, or all are P; the parameter set.
    bits.ue(0, 7 if is_idr else 5, 0)
    bits.u(frame_number, 8)
    bits.u(0b10 | bottom, 2)
    if is_idr:
        bits.ue(idr_id)
        bits.u(0, 2)
    else:
        # As many to refer to as usual, in the usual order; those no longer needed leave in theirs.
        bits.u(0, 3)
    # No change of the quantiser, no filter over the edges of blocks.
    bits.ue(0, 1)
    luma, *chroma = planes
    for y in range(0, luma.shape[0], _MB):
        for x in range(0, luma.shape[1], _MB):
            # Stored as it is; in a P slice it is said first that none is left out.
            bits.ue(*([25] if is_idr else [0, 30]))
            bits.raw(luma[y : y + _MB, x : x + _MB].tobytes())
            for plane in chroma:
                bits.raw(plane[y // 2 : (y + _MB) // 2, x // 2 : (x + _MB) // 2].tobytes())
    return bits.nal(0x65 if is_idr else 0x21)
