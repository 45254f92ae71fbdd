"""What `launch.py compare` compares, and the outcome: versions of one content, or folders with a version of
each."""

import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from data.paths import is_video
from data.tables import SUFFIXES as TABLE_SUFFIXES
from evaluation.inputs import FoundVideos, InputError, find_videos
from evaluation.models import resolve_checkpoint, scoring_settings
from evaluation.preference import FEWEST_SAMPLES, confidence
from evaluation.score_job import ScoreJob
from rewards.ranking import group_moments

_LISTED = 4

NamedVideo = tuple[str, str]
"""(video_id, absolute path)."""


@dataclass(frozen=True, slots=True)
class Versions:
    """What is compared. `names` are the versions, as typed: videos, or folders if `of_folders`. `contents`
    maps each content to its video in every version, None where it has none. `alone` lists the videos that
    have no partner in another folder, `ignored` counts the files of folders that are no videos."""

    names: tuple[str, ...]
    of_folders: bool
    contents: Mapping[str, tuple[NamedVideo | None, ...]]
    alone: Sequence[str] = ()
    ignored: int = 0

    def videos(self) -> list[NamedVideo]:
        """All videos to score."""
        return [video for versions in self.contents.values() for video in versions if video is not None]


@dataclass(frozen=True, slots=True)
class Rated:
    """A model's answers about one version. `samples` are the sampled scores that parse. `failure` says why
    it cannot be compared; empty if it can."""

    video_id: str
    path: str
    score: float | None = None
    samples: tuple[float, ...] = ()
    trace: str = ""
    failure: str = ""

    @property
    def mean(self) -> float:
        """Mean of the samples; NaN if there is none."""
        return group_moments(np.array(self.samples, dtype=float))[0]

    @property
    def spread(self) -> float:
        """Standard deviation of the samples."""
        return math.sqrt(group_moments(np.array(self.samples, dtype=float))[1])


@dataclass(frozen=True, slots=True)
class Pair:
    """Two versions of a content, by their numbers in `Versions.names`. `difference` is the mean of the first
    minus that of the second; `confidence` is `preference.confidence`."""

    content: str
    first: int
    second: int
    difference: float
    confidence: float


def read_compare_job(
    arguments: Sequence[str],
    checkpoint: str | None,
    samples: int,
    window_s: tuple[float, float] | None = None,
    frame_rate: float | None = None,
    **overrides: Any,
) -> tuple[Versions, ScoreJob]:
    """Find the versions and the model, and how to score all of their videos. Raises InputError or
    ConfigError."""
    versions = find_versions(arguments, frame_rate)
    model = resolve_checkpoint(checkpoint)
    found = FoundVideos(versions.videos(), versions.ignored, 0, frame_rate)
    return versions, ScoreJob(found, model, scoring_settings(model, **overrides), samples, None, window_s)


def find_versions(arguments: Sequence[str], frame_rate: float | None = None) -> Versions:
    """Find what to compare: two or more videos, or two or more folders of videos.

    Videos of folders belong together if their paths in the folders are equal, apart from the suffix where
    that is unambiguous.

    Args:
        frame_rate: if given, a folder of pictures is a video with this many of them per second.
    Raises:
        InputError: for fewer than two versions, an argument that does not exist or is given twice, a table,
            videos beside folders, or folders without a common name.
    """
    if len(arguments) < 2:
        raise InputError(f"compare takes two or more versions, and {len(arguments)} is given; name another")
    found: dict[str, FoundVideos] = {}
    for argument in arguments:
        if Path(argument).suffix in TABLE_SUFFIXES and not Path(argument).is_dir():
            raise InputError(f"{argument} is a table; compare takes videos, or folders of videos")
        same = [name for name in found if os.path.realpath(name) == os.path.realpath(argument)]
        if same:
            raise InputError(f"{argument} is the same as {same[0]}; name different versions")
        found[argument] = find_videos([argument], frame_rate=frame_rate)
    folders = [name for name, of in found.items() if not _is_one_video(name, of)]
    if not folders:
        videos = tuple(of.videos[0] for of in found.values())
        return Versions(tuple(found), False, {"": videos})
    if len(folders) < len(found):
        video = next(name for name in found if name not in folders)
        raise InputError(
            f"{folders[0]} is a folder of videos and {video} is one video; compare two of a kind"
        )
    return _paired(found)


def _paired(found: Mapping[str, FoundVideos]) -> Versions:
    below = {
        folder: {os.path.relpath(video[1], _absolute(folder)): video for video in of.videos}
        for folder, of in found.items()
    }
    counts = [Counter(map(_stem, names)) for names in below.values()]
    ambiguous = {stem for of_folder in counts for stem, count in of_folder.items() if count > 1}
    contents: dict[str, list[NamedVideo | None]] = {}
    for number, names in enumerate(below.values()):
        for name, video in names.items():
            content = name if _stem(name) in ambiguous else _stem(name)
            contents.setdefault(content, [None] * len(below))[number] = video
    paired = {name: tuple(found) for name, found in sorted(contents.items()) if sum(map(bool, found)) > 1}
    alone = [v[0] for name, found in sorted(contents.items()) if name not in paired for v in found if v]
    if not paired:
        raise InputError(
            f"{', '.join(below)}: no video has a partner of its name in another folder (there are "
            f"{', '.join(alone[:_LISTED])}{', ...' if len(alone) > _LISTED else ''}); "
            f"name the versions of a content alike in every folder"
        )
    return Versions(tuple(below), True, paired, alone, sum(of.ignored for of in found.values()))


def _stem(name: str) -> str:
    """Without a video's suffix."""
    return os.path.splitext(name)[0] if is_video(name) else name


def _absolute(argument: str) -> str:
    return os.path.abspath(Path(argument).expanduser())


def _is_one_video(argument: str, of: FoundVideos) -> bool:
    """Whether it is a file, or a folder of pictures that is one video."""
    return [path for _, path in of.videos] == [_absolute(argument)]


def rated_of_row(row: Mapping[str, Any]) -> Rated:
    """The answers in a row of a score file, whose cells may be text (see score_rows)."""
    samples = row["samples"]
    given = json.loads(samples) if isinstance(samples, str) else samples
    parsed = tuple(score for score in given if score is not None)
    failure = row["failure"]
    if not failure and len(parsed) < FEWEST_SAMPLES:
        failure = f"{len(parsed)} of its {len(given)} sampled answers parse, {FEWEST_SAMPLES} are needed"
    score = row["score"]
    return Rated(
        video_id=row["video_id"],
        path=row["path"],
        score=None if score in (None, "") else float(score),
        samples=parsed,
        trace=row["trace"],
        failure=failure,
    )


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of a comparison. `rated` lists, for each content, the model's answer for each version: None
    where the version has no video of it."""

    versions: Versions
    rated: Mapping[str, Sequence[Rated | None]]
    pairs: Sequence[Pair]

    @property
    def failures(self) -> list[tuple[str, str]]:
        """(video_id, reason) of the versions that cannot be compared."""
        return [
            (r.video_id, r.failure) for versions in self.rated.values() for r in versions if r and r.failure
        ]

    def pairs_of(self, first: int, second: int) -> list[Pair]:
        return [pair for pair in self.pairs if (pair.first, pair.second) == (first, second)]


def compare_versions(versions: Versions, rated: Mapping[str, Sequence[Rated | None]]) -> Comparison:
    """Compare every two versions of each content that have been rated."""
    pairs = [
        Pair(content, i, j, one.mean - other.mean, confidence(one.samples, other.samples))
        for content, answers in rated.items()
        for (i, one), (j, other) in combinations(enumerate(answers), 2)
        if one and other and not one.failure and not other.failure
    ]
    return Comparison(versions, rated, pairs)
