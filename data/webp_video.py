"""Reads WebP with Pillow, because FFmpeg cannot read animated WebP."""

from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
import PIL
from PIL import Image

from data.picture import Picture
from data.video_file import OpenVideo, Unreadable

_STILL_MS = 40
"""Duration of a picture that states none, in milliseconds."""


def is_webp(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            start = file.read(12)
    except OSError:  # the decoders report the error
        return False
    return start[:4] == b"RIFF" and start[8:] == b"WEBP"


class WebPVideo(OpenVideo):
    decoder = f"Pillow {PIL.__version__}"

    def __init__(self, path: str) -> None:
        try:
            self._image = Image.open(path, formats=["WEBP"])
        except OSError as error:
            raise Unreadable(str(error)) from None
        self.n_frames = int(getattr(self._image, "n_frames", 1))

    def times_s(self) -> np.ndarray:
        lengths_ms = [self._frame(number).info["duration"] or _STILL_MS for number in range(self.n_frames)]
        return np.concatenate([[0.0], np.cumsum(lengths_ms)]) / 1000

    def pictures(self, numbers: Sequence[int]) -> Iterator[Picture]:
        black = Image.new("RGBA", self._image.size, (0, 0, 0, 255))
        for number in numbers:
            shown = Image.alpha_composite(black, self._frame(number).convert("RGBA"))
            yield Picture(np.asarray(shown.convert("RGB")), Fraction(1))

    def close(self) -> None:
        self._image.close()

    def _frame(self, number: int) -> Image.Image:
        try:
            self._image.seek(number)
            self._image.load()
        except (OSError, EOFError) as error:
            raise Unreadable(f"frame {number}: {error}") from None
        return self._image
