"""Convert a decoded frame to the pixels that a model sees: RGB, upright, square and of the requested size."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

_QUARTERS = (False, False, False), (True, True, False), (False, True, True), (True, False, True)
"""The `orientation` of a picture turned by 0, 1, 2 and 3 quarters counter-clockwise."""


@dataclass(frozen=True, slots=True)
class Picture:
    """`pixels`: uint8 [height, width, 3], RGB and upright; `sar`: width by height of one of them."""

    pixels: np.ndarray
    sar: Fraction
    interlaced: bool = False
    damaged: bool = False


class PictureMaker:
    """Converts the frames of one file, whose stored pixels have the aspect ratio `sar`."""

    def __init__(self, sar: Fraction) -> None:
        self._sar = sar
        self._reformatter = VideoReformatter()
        self._orientations: dict[int, tuple[bool, bool, bool]] = {}

    def picture(self, frame: Any, damaged: bool = False) -> Picture:
        """The picture of a frame that PyAV decoded."""
        sar = self._sar
        transparent = _may_be_transparent(frame)
        pixels = (
            _over_black(frame, self._reformatter) if transparent else _rgb(frame, self._reformatter, "rgb24")
        )
        # Reading side data makes a frame refer to itself, which delays its release: read it once a rotation.
        if frame.rotation not in self._orientations:
            self._orientations[frame.rotation] = orientation(frame)
        transposed, flip_rows, flip_columns = self._orientations[frame.rotation]
        if transposed:
            pixels, sar = pixels.swapaxes(0, 1), 1 / sar
        pixels = pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
        return Picture(pixels, sar, frame.interlaced_frame, damaged)


def orientation(frame: Any) -> tuple[bool, bool, bool]:
    """(transposed, then rows reversed, then columns reversed): of all turns by quarters and mirrors, the
    nearest to the frame's display matrix."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # side data unknown to PyAV, such as EXIF: mirrors are then not detected
        return _QUARTERS[round(frame.rotation / 90) % 4]
    if matrix is None:
        return False, False, False
    # A pixel at (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d = (int(v) for v in np.frombuffer(bytes(matrix), np.int32)[:5])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, d < 0, a < 0
    return True, b < 0, c < 0


def fit(picture: Picture, max_px: int | None, square: bool = True) -> np.ndarray:
    """Stretch pixels to square ones along their shorter side, then shrink the picture so that its longer side
    is at most `max_px`: uint8 [height, width, 3]."""
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
    # FFmpeg's own program upsamples subsampled chroma in the same way.
    scaled = reformatter.reformat(frame, format=form, interpolation=Interpolation.BICUBIC, threads=1)
    return scaled.to_ndarray()
