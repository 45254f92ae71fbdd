"""Read the predictions of any method from a table, for `launch.py evaluate --predictions`."""

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from data.tables import TableError, read_table
from evaluation.comparison import Answer
from evaluation.test_sets import LabelledSet

_NAMES = ("path", "video_id")
"""Columns that identify a video; the more specific comes first."""


class PredictionsError(TableError):
    """A table of predictions that cannot be used. The message names the row and the fix."""


def read_predictions(
    path: Path, sets: Sequence[LabelledSet], score_scale: tuple[float, float] | None = None
) -> dict[str, dict[str, Answer]]:
    """Read a table with the columns `score` and `path` or `video_id`; returns answers by set and video_id.

    A path is absolute, or relative to the set's folder or the current folder; symbolic links are followed.
    The video_id is used if the path matches no video of the sets. An empty score counts as an answer that
    does not parse. The optional column `failure` says why a video has no answer. Rows of videos outside the
    sets are skipped.

    Args:
        score_scale: the scores in the table that mean 1 and 5; default: scores are used as they are.
    Raises:
        TableError: for a table that cannot be read.
        PredictionsError: for a score that is not a number, a video named twice, or a table without any video
            of the sets.
    """
    table = read_table(path)
    names = [name for name in _NAMES if name in table.columns]
    if not names or "score" not in table.columns:
        raise PredictionsError(
            f"{path}: needs the columns score and path (or video_id); it has {', '.join(map(str, table))}"
        )
    index = _index(sets)
    found: dict[str, dict[str, Answer]] = {of.name: {} for of in sets}
    rows = table.astype(object).where(table.notna(), "").to_dict("records")
    for number, row in enumerate(rows, start=2 if path.suffix == ".csv" else 1):
        named = (_matches(str(row[name]), index, sets) for name in names)
        matches = next((videos for videos in named if videos), set())
        if len(matches) > 1:
            raise PredictionsError(
                f"{path}: row {number} matches {len(matches)} videos of the sets: give absolute paths, or "
                f"evaluate one set at a time"
            )
        for set_name, video_id in matches:
            if video_id in found[set_name]:
                raise PredictionsError(f"{path}: row {number}: '{video_id}' appears twice; remove one")
            score = _score(row["score"], f"{path}: row {number}", score_scale)
            found[set_name][video_id] = Answer(score, str(row.get("failure", "")))
    if not any(found.values()):
        raise PredictionsError(
            f"{path}: none of its {len(table)} rows names a video of the sets, such as "
            f"'{sets[0].videos[0].video_id}'"
        )
    return found


def _index(sets: Sequence[LabelledSet]) -> dict[str, set[tuple[str, str]]]:
    """Map every name that a row may use for a video to its pairs (set name, video_id)."""
    index: dict[str, set[tuple[str, str]]] = {}
    for of in sets:
        for video in of.videos:
            for name in (video.video_id, video.path):
                index.setdefault(name, set()).add((of.name, video.video_id))
    return index


def _matches(
    text: str, index: dict[str, set[tuple[str, str]]], sets: Sequence[LabelledSet]
) -> set[tuple[str, str]]:
    places = [text, *(os.path.join(of.base, text) for of in sets)]
    # Sets hold resolved paths. Try abspath first: realpath reads the disk and is rarely needed.
    spellers: tuple[Callable[[str], str], ...] = (os.path.abspath, os.path.realpath)
    for spelled in spellers:
        spellings = {text, *places, *map(spelled, places)}
        if matches := {match for spelling in spellings for match in index.get(spelling, ())}:
            return matches
    return set()


def _score(cell: object, where: str, score_scale: tuple[float, float] | None) -> float | None:
    if str(cell).strip() == "":
        return None
    try:
        score = float(str(cell))
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise PredictionsError(f"{where}: score {cell!r} is not a number; leave it empty if there is none")
    if score_scale is None:
        return score
    low, high = score_scale
    return 1 + 4 * (score - low) / (high - low)
