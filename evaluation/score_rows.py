"""The rows of score files: their columns, keys and Parquet types."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from data.records import VideoRef
from rewards.parser import HIGHEST, LOWEST

if TYPE_CHECKING:
    import pyarrow as pa

    from evaluation.answers import ScoredVideo

SCALE = f"{LOWEST:g} to {HIGHEST:g}"

_TYPES = {
    "video_id": "text",
    "path": "text",
    "start_s": "number",
    "end_s": "number",
    "score": "number",
    "sample_mean": "number",
    "sample_spread": "number",
    "trace": "text",
    "text": "text",
    "samples": "numbers",
    "sample_texts": "texts",
    "scale": "text",
    "frames": "counts",
    "frames_in_all": "count",
    "frame_size": "text",
    "source_size": "text",
    "decoder": "text",
    "sar": "text",
    "interlaced": "flag",
    "transfer": "text",
    "damaged_frames": "counts",
    "truncated": "text",
    "checkpoint": "text",
    "seconds": "number",
    "failure": "text",
}
COLUMNS = tuple(_TYPES)
LIST_COLUMNS = frozenset(name for name, kind in _TYPES.items() if kind in ("numbers", "texts", "counts"))

Key = tuple[str, str, float | None]
"""Identifies a row: video_id, path and the start of the window."""


def row_of(scored: ScoredVideo, checkpoint: str) -> dict[str, Any]:
    """Convert a result to a row: a dictionary of JSON values, one per name in COLUMNS.

    Sizes are width x height in pixels. `frames` lists the indices of the frames given to the model, out of
    `frames_in_all`; `damaged_frames` lists the damaged ones among them.
    """
    frames = scored.frames
    facts = frames.facts if frames else None
    start_s, end_s = scored.window_s or (None, None)
    if end_s == math.inf:  # the length of a failed video is unknown
        end_s = None
    return {
        "video_id": _printable(scored.video_id),
        "path": _printable(scored.path),
        "start_s": start_s,
        "end_s": end_s,
        "score": scored.score,
        "sample_mean": _rounded(scored.sample_mean),
        "sample_spread": _rounded(scored.sample_spread),
        "trace": scored.trace,
        "text": scored.text,
        "samples": scored.samples,
        "sample_texts": scored.sample_texts,
        "scale": SCALE,
        "frames": list(frames.indices) if frames else [],
        "frames_in_all": frames.n_total if frames else None,
        "frame_size": _size(frames.px) if frames else "",
        "source_size": _size(frames.source_px) if frames else "",
        "decoder": frames.decoder if frames else "",
        "sar": facts.sar if facts else "",
        "interlaced": facts.interlaced if facts else None,
        "transfer": facts.transfer if facts else "",
        "damaged_frames": list(facts.damaged_frames) if facts else [],
        "truncated": _printable(facts.truncated) if facts else "",
        "checkpoint": checkpoint,
        "seconds": _rounded(scored.seconds),
        "failure": _printable(scored.failure),
    }


def key_of(row: Mapping[str, Any]) -> Key:
    """The key of a row. `start_s` may be a string, as read from a CSV file."""
    start_s = row["start_s"]
    return row["video_id"], row["path"], None if start_s in (None, "") else float(start_s)


def key_of_ref(ref: VideoRef) -> Key:
    """The key of the row that the result for `ref` will have."""
    return _printable(ref.video_id), _printable(ref.path), ref.window_s[0] if ref.window_s else None


def parquet_schema() -> pa.Schema:
    import pyarrow as pa

    types = {
        "text": pa.string(),
        "number": pa.float64(),
        "count": pa.int64(),
        "flag": pa.bool_(),
        "numbers": pa.list_(pa.float64()),
        "texts": pa.list_(pa.string()),
        "counts": pa.list_(pa.int64()),
    }
    return pa.schema([(name, types[kind]) for name, kind in _TYPES.items()])


def _size(height_width: tuple[int, int]) -> str:
    return f"{height_width[1]}x{height_width[0]}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _printable(text: str) -> str:
    """Escape the bytes of a file name that are not valid UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()
