"""Read and check the input of `launch.py score`, before an engine starts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from data.fetch_settings import FetchSettings
from data.frames import clip_window, duration_s
from data.records import VideoRef
from data.urls import Location
from data.video_file import VideoError
from evaluation.inputs import FoundVideos, InputError, find_videos
from evaluation.models import Checkpoint, fingerprint, resolve_checkpoint, scoring_settings
from evaluation.score_rows import SCALE
from evaluation.settings import ScoringSettings
from evaluation.timeline import windows
from runtime.errors import ConfigError

# Settings that do not affect scores.
_NOT_OF_SCORES = {
    "trust_remote_code", "decode_timeout_s", "decode_tasks", "decode_cpus", "replicas", "cpus_per_replica",
    "kv_cache_mb", "videos_in_flight", "cluster", "cache_gb", "cache_dir", "fetch_timeout_s",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ScoreJob:
    """Videos to score, the model, and its settings.

    `samples` is the number of sampled answers per video. `timeline_s` is the length of the windows into which
    a single video is cut. `window_s` limits each video to (start, end).
    """

    found: FoundVideos
    checkpoint: Checkpoint
    settings: ScoringSettings
    samples: int
    timeline_s: float | None = None
    window_s: tuple[float, float] | None = None

    def refs(self) -> list[VideoRef]:
        """The videos to score or, with --timeline, the windows of the single video.

        With a single video, raises ConfigError if --start, --end or --timeline select a part that it does not
        have. Several videos are checked when they are decoded.
        """
        refs = list(self.found.refs(self.settings.frames_per_video, self.window_s))
        if len(refs) > 1 or (self.timeline_s is None and self.window_s is None):
            return refs
        start_s, end_s = part_s(refs[0], self.settings)
        if self.timeline_s is None:
            return [replace(refs[0], window_s=(start_s, end_s))]
        try:
            spans = windows(end_s - start_s, self.timeline_s)
        except ValueError as error:
            raise ConfigError(f"{refs[0].path}: {error}") from None
        return [replace(refs[0], window_s=(start_s + start, start_s + end)) for start, end in spans]

    def output_settings(self) -> dict[str, Any]:
        """Everything that affects the scores, except the videos, as JSON values."""
        start_s, end_s = self.window_s or (None, None)
        own = self.settings.model_dump(mode="json", exclude=_NOT_OF_SCORES)
        return own | {
            "model": fingerprint(self.settings.checkpoint), "samples": self.samples, "scale": SCALE,
            "timeline_s": self.timeline_s, "frame_rate": self.found.frame_rate,
            "start_s": start_s, "end_s": None if end_s == math.inf else end_s,
        }  # fmt: skip


def read_score_job(
    arguments: Sequence[str],
    checkpoint: str | None,
    samples: int,
    timeline_s: float | None,
    root: Location | None = None,
    window_s: tuple[float, float] | None = None,
    frame_rate: float | None = None,
    **overrides: Any,
) -> ScoreJob:
    """Find the videos and the model. `root` and `frame_rate` have the same meaning as in find_videos.

    Raises InputError or ConfigError.
    """
    fetch = {name: overrides[name] for name in FetchSettings.model_fields if overrides.get(name) is not None}
    found = find_videos(arguments, root, frame_rate, FetchSettings(**fetch).fetching)
    if timeline_s is not None and len(found.videos) > 1:
        raise InputError(f"--timeline takes one video, and {len(found.videos)} are given; name one")
    if timeline_s is not None and not timeline_s > 0:
        raise InputError(f"--timeline {timeline_s:g}: give the length of a window in seconds, above 0")
    model = resolve_checkpoint(checkpoint)
    return ScoreJob(found, model, scoring_settings(model, **overrides), samples, timeline_s, window_s)


def part_s(ref: VideoRef, settings: ScoringSettings) -> tuple[float, float]:
    """The (start, end) in seconds that `ref` selects, clipped to the length of its file.

    Raises ConfigError if the file cannot be read, or has no such part.
    """
    try:
        length_s = duration_s(
            ref.path, settings.decoder, settings.decode_timeout_s, ref.frame_rate, settings.fetching
        )
        return clip_window(ref.window_s or (0.0, math.inf), length_s)
    except VideoError as error:
        raise ConfigError(str(error)) from None
    except ValueError as error:
        raise ConfigError(f"{ref.path}: {error}") from None
