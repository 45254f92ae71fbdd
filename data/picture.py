"""Converts a decoded frame to a model's input pixels: RGB, upright, square pixels, the requested size."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

_QUARTERS = (False, False, False), (True, True, False), (False, True, True), (True, False, True)
"""The `orientation` of a picture rotated counter-clockwise by 0, 1, 2 and 3 quarter turns."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A converted frame. `pixels`: uint8 [height, width, 3], RGB and upright. `sar`: aspect ratio of one
    pixel, width / height."""

    pixels: np.ndarray
    sar: Fraction
    interlaced: bool = False
    damaged: bool = False


class PictureMaker:
    """Converts the frames of one file. `sar` is the aspect ratio of its stored pixels."""

    def __init__(self, sar: Fraction) -> None:
        self._sar = sar
        self._reformatter = VideoReformatter()
        self._orientations: dict[int, tuple[bool, bool, bool]] = {}

    def picture(self, frame: Any, damaged: bool = False) -> Picture:
        """Convert a frame that PyAV decoded."""
        sar = self._sar
        transparent = _may_be_transparent(frame)
        pixels = (
            _over_black(frame, self._reformatter) if transparent else _rgb(frame, self._reformatter, "rgb24")
        )
        # Reading side data creates a reference cycle, which delays the frame's release. So read it only once
        # per rotation.
        if frame.rotation not in self._orientations:
            self._orientations[frame.rotation] = orientation(frame)
        transposed, flip_rows, flip_columns = self._orientations[frame.rotation]
        if transposed:
            pixels, sar = pixels.swapaxes(0, 1), 1 / sar
        pixels = pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
        return Picture(pixels, sar, frame.interlaced_frame, damaged)


def orientation(frame: Any) -> tuple[bool, bool, bool]:
    """Return the combination of quarter turns and mirroring that is nearest to the frame's display matrix, as
    (transposed, then rows reversed, then columns reversed)."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know some side data, such as EXIF: mirroring is then not detected
        return _QUARTERS[round(frame.rotation / 90) % 4]
    if matrix is None:
        return False, False, False
    # A pixel at (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d = (int(v) for v in np.frombuffer(bytes(matrix), np.int32)[:5])
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, d < 0, a < 0
    return True, b < 0, c < 0


def fit(picture: Picture, max_px: int | None, square: bool = True) -> np.ndarray:
    """Stretch pixels along their shorter side until they are square, then shrink the picture so that its
    longer side is at most `max_px`. Returns uint8 [height, width, 3]."""
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
    # The ffmpeg program upsamples subsampled chroma in the same way.
    scaled = reformatter.reformat(frame, format=form, interpolation=Interpolation.BICUBIC, threads=1)
    return scaled.to_ndarray()
