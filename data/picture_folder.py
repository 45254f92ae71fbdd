"""Reads a folder of numbered pictures as one video."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

import av
import numpy as np

from data.paths import is_picture
from data.picture import Picture
from data.pyav_video import PyAVInOrder
from data.video_file import OpenVideo, Unreadable

_NUMBERED = re.compile(r"(.*?)(\d+)(\D*)")


class PictureFolder(OpenVideo):
    """A video made of pictures in the order of their numbers, with `frame_rate` pictures per second."""

    def __init__(self, path: str, frame_rate: float) -> None:
        self.decoder = f"pictures, {frame_rate:g} a second, PyAV {av.__version__}"
        self._folder = Path(path)
        self._frame_rate = frame_rate
        self._names = in_order(name for name in os.listdir(path) if is_picture(name))
        self.n_frames = len(self._names)
        if self._names:
            with self._open(self._names[0]) as first:
                self.facts = first.facts

    def times_s(self) -> np.ndarray:
        return np.arange(self.n_frames + 1) / self._frame_rate

    def pictures(self, numbers: Sequence[int]) -> Iterator[Picture]:
        for number in numbers:
            with self._open(self._names[number]) as picture:
                yield from picture.pictures([0])

    @contextmanager
    def _open(self, name: str) -> Iterator[PyAVInOrder]:
        try:
            with closing(PyAVInOrder(str(self._folder / name))) as picture:
                yield picture
        except Unreadable as error:
            raise Unreadable(f"{name}: {error}", error.kind) from None


def in_order(names: Iterable[str]) -> list[str]:
    """Sort names by the last number in each: frame-9.png comes before frame-10.png.

    Raises Unreadable if a name has no number, if the names belong to several videos, or if numbers are
    missing, because the remaining pictures would play too fast. Numbers may increase by any constant step.
    """
    numbers: dict[int, str] = {}
    alike: dict[tuple[str, ...], str] = {}
    for name in sorted(names):
        stem, suffix = os.path.splitext(name)
        parts = _NUMBERED.fullmatch(stem)
        if parts is None:
            raise Unreadable(f"{name} has no number among its pictures: move it out of the folder")
        before, number, behind = parts.groups()
        alike.setdefault((before, behind, suffix.lower()), name)
        if len(alike) > 1:
            others = " and ".join(alike.values())
            raise Unreadable(f"{others} belong to several videos: leave the pictures of one in the folder")
        if int(number) in numbers:
            raise Unreadable(f"{numbers[int(number)]} and {name} have one number: remove one of them")
        numbers[int(number)] = name
    ordered = sorted(numbers)
    steps = [after - before for before, after in pairwise(ordered)]
    gaps = [at for at, step in enumerate(steps) if step >= 2 * min(steps)]
    if gaps:
        before, after = (numbers[ordered[at]] for at in (gaps[0], gaps[0] + 1))
        raise Unreadable(
            f"pictures are missing between {before} and {after} ({len(gaps)} gaps in all): restore them, or "
            f"renumber the others",
            "truncated",
        )
    return [numbers[number] for number in ordered]
