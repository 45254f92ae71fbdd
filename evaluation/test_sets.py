"""The test sets of `launch.py evaluate`: rows of manifests, grouped by label set and split."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.manifest import ManifestError, read_manifest
from data.records import Video
from data.urls import Location
from evaluation.statistics.metrics import Scale

DEFAULT_SPLIT = "test"


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Videos of one label set and one split. `base` is the folder that their paths are relative to. `name` is
    valid as a file name."""

    name: str
    base: Location
    videos: tuple[Video, ...]

    @property
    def scale(self) -> Scale:
        """The scale of the set's original labels; 1 to 5 if a row states no scale, or scales differ."""
        scales = {_scale(video) for video in self.videos}
        return next(iter(scales)) if len(scales) == 1 else Scale()

    @property
    def rank_only(self) -> bool:
        """Whether any label is for ranking only."""
        return any(video.rank_only for video in self.videos)

    def labels(self, videos: Sequence[Video]) -> np.ndarray:
        """Labels [n] of the given videos, on `scale`."""
        if self.scale == Scale():
            return np.array([video.mos for video in videos], dtype=float)
        return np.array([video.original_mos for video in videos], dtype=float)


def read_sets(
    manifests: Sequence[Path],
    splits: Sequence[str] = (),
    headline_only: bool = False,
    root: Location | None = None,
    check_files: bool = True,
) -> list[LabelledSet]:
    """Read test sets from manifests: one set per label set and requested split.

    Args:
        splits: splits to read; default: "test" if the manifest has it, else all rows.
        headline_only: leave out rows that are not part of the headline figures.
        root, check_files: as in data.manifest.read_manifest.
    Raises:
        ManifestError: for an invalid manifest, one without rows to evaluate, or two sets with the same name.
    """
    sets: dict[str, LabelledSet] = {}
    for manifest in manifests:
        for found in _sets_of(manifest, splits, headline_only, root, check_files):
            if found.name in sets:
                raise ManifestError(
                    f"{manifest}: a second set is called '{found.name}': rename the manifest, or give its "
                    f"rows a label_set of their own"
                )
            sets[found.name] = found
    return list(sets.values())


def _sets_of(
    manifest: Path, splits: Sequence[str], headline_only: bool, root: Location | None, check_files: bool
) -> Iterator[LabelledSet]:
    videos = read_manifest(manifest, root, check_files, root_option="--root")
    known = list(dict.fromkeys(video.split for video in videos))
    for split in splits:
        if split not in known:
            has = ", ".join(known)
            raise ManifestError(f"{manifest}: no row has split '{split}' (--split); it has {has}")
    chosen = list(splits) or ([DEFAULT_SPLIT] if DEFAULT_SPLIT in known else [])
    groups: dict[tuple[str, str], list[Video]] = {}
    for video in videos:
        if (not chosen or video.split in chosen) and (video.headline or not headline_only):
            groups.setdefault((video.split if chosen else "", video.label_set), []).append(video)
    if not groups:
        raise ManifestError(f"{manifest}: no row to evaluate has headline true; leave out --headline-only")
    base = root if isinstance(root, str) else (root or manifest.parent).resolve()
    title = manifest.resolve().parent.name if manifest.stem == "manifest" else manifest.stem
    for (split, label_set), rows in groups.items():
        name = title if label_set == "default" else label_set
        if split and len(known) > 1:
            name = f"{name}-{split}"
        yield LabelledSet(re.sub(r"[^\w.-]+", "-", name), base, tuple(rows))


def _scale(video: Video) -> Scale:
    if video.original_mos is None or video.scale_low is None or video.scale_high is None:
        return Scale()
    return Scale(video.scale_low, video.scale_high)
