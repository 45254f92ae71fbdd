"""From a decoded frame to the pixels that a model sees: RGB, upright, square, and of the size asked for."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

_QUARTERS = (False, False, False), (True, True, False), (False, True, True), (True, False, True)
"""What turns a picture by so many quarters counter-clockwise, as `orientation` returns it."""


@dataclass(frozen=True, slots=True)
class Picture:
    """`pixels`: uint8 [height, width, 3], RGB and upright; `sar`: width by height of one of them."""

    pixels: np.ndarray
    sar: Fraction
    interlaced: bool = False
    damaged: bool = False


def to_picture(frame: Any, reformatter: VideoReformatter, sar: Fraction, damaged: bool = False) -> Picture:
    """A frame as PyAV decodes it; `sar` is that of its pixels as they are stored."""
    pixels = (
        _over_black(frame, reformatter) if _may_be_transparent(frame) else _rgb(frame, reformatter, "rgb24")
    )
    transposed, flip_rows, flip_columns = orientation(frame)
    if transposed:
        pixels, sar = pixels.swapaxes(0, 1), 1 / sar
    pixels = pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    return Picture(pixels, sar, frame.interlaced_frame, damaged)


def orientation(frame: Any) -> tuple[bool, bool, bool]:
    """(transposed, then rows reversed, then columns reversed): of all turns by quarters and mirrors, the
    nearest to the frame's display matrix."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV has no name for other data of the frame, such as EXIF: it then tells no mirrors
        return _QUARTERS[round(frame.rotation / 90) % 4]
    if matrix is None:
        return False, False, False
    # A pixel at (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d = (int(v) for v in np.frombuffer(bytes(matrix), np.int32)[:5])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, d < 0, a < 0
    return True, b < 0, c < 0


def fit(picture: Picture, max_px: int | None, square: bool = True) -> np.ndarray:
    """Its pixels, made square by stretching the shorter side of them, and shrunk so that the picture's longer
    side is `max_px` at most: uint8 [height, width, 3]."""
    height, width = picture.pixels.shape[:2]
    sar = picture.sar if square else Fraction(1)
    full = (width * max(sar, Fraction(1)), height / min(sar, Fraction(1)))
    scale = 1 if max_px is None else min(1, max_px / max(full))
    size = (max(1, round(full[0] * scale)), max(1, round(full[1] * scale)))
    if size == (width, height):
        return picture.pixels
    return np.asarray(Image.fromarray(picture.pixels).resize(size, Image.Resampling.LANCZOS))


def _may_be_transparent(frame: Any) -> bool:
    return frame.format.has_palette or any(part.is_alpha for part in frame.format.components)


def _over_black(frame: Any, reformatter: VideoReformatter) -> np.ndarray:
    pixels = _rgb(frame, reformatter, "rgba")
    colour, alpha = pixels[..., :3].astype(np.uint16), pixels[..., 3:]
    return ((colour * alpha + 127) // 255).astype(np.uint8)


def _rgb(frame: Any, reformatter: VideoReformatter, form: str) -> np.ndarray:
    # The way in which FFmpeg's own program enlarges colour that is stored at half the size.
    scaled = reformatter.reformat(frame, format=form, interpolation=Interpolation.BICUBIC, threads=1)
    return scaled.to_ndarray()
