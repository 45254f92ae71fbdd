"""What `launch.py score` was asked for, checked before an engine starts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data.frames import clip_window, duration_s
from data.records import VideoRef
from data.video_file import VideoError
from evaluation.inputs import FoundVideos, InputError, find_videos
from evaluation.models import Checkpoint, fingerprint, resolve_checkpoint, scoring_settings
from evaluation.score_rows import SCALE
from evaluation.settings import ScoringSettings
from evaluation.timeline import windows
from runtime.errors import ConfigError

# What no score depends on.
_NOT_OF_SCORES = {
    "trust_remote_code", "decode_timeout_s", "decode_tasks", "decode_cpus", "replicas", "cpus_per_replica",
    "kv_cache_mb", "videos_in_flight", "cluster",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ScoreJob:
    """A command whose inputs were found good, before anything starts."""

    found: FoundVideos
    checkpoint: Checkpoint
    settings: ScoringSettings
    samples: int
    out: Path | None = None
    as_json: bool = False
    timeline_s: float | None = None
    window_s: tuple[float, float] | None = None

    def refs(self) -> list[VideoRef]:
        """What to score: each video, or the windows of the one there is.

        Raises ConfigError if there is one and --start, --end or --timeline ask for what it does not show. Of
        many videos, each is looked at when its turn comes.
        """
        refs = list(self.found.refs(self.settings.frames_per_video, self.window_s))
        if len(refs) > 1 or (self.timeline_s is None and self.window_s is None):
            return refs
        ref, settings = refs[0], self.settings
        try:
            length_s = duration_s(ref.path, settings.decoder, settings.decode_timeout_s, ref.frame_rate)
            start_s, end_s = clip_window(self.window_s or (0.0, math.inf), length_s)
            spans = [(start_s, end_s)]
            if self.timeline_s is not None:
                spans = windows(end_s - start_s, self.timeline_s)
                spans = [(start_s + start, start_s + end) for start, end in spans]
        except VideoError as error:
            raise ConfigError(str(error)) from None
        except ValueError as error:
            raise ConfigError(f"{ref.path}: {error}") from None
        return [replace(ref, window_s=window_s) for window_s in spans]

    def output_settings(self) -> dict[str, Any]:
        """What the scores depend on, besides the videos."""
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
    out: Path | None,
    as_json: bool,
    timeline_s: float | None,
    root: Path | None = None,
    window_s: tuple[float, float] | None = None,
    frame_rate: float | None = None,
    **overrides: Any,
) -> ScoreJob:
    """Find videos and model; `root` and `frame_rate` as in find_videos. Raises InputError or ConfigError."""
    found = find_videos(arguments, root, frame_rate)
    if timeline_s is not None and len(found.videos) > 1:
        raise InputError(f"--timeline looks at one video, and {len(found.videos)} are given; name one")
    if timeline_s is not None and not timeline_s > 0:
        raise InputError(f"--timeline {timeline_s:g}: give the seconds of a window")
    model = resolve_checkpoint(checkpoint)
    settings = scoring_settings(model, **overrides)
    return ScoreJob(found, model, settings, samples, out, as_json, timeline_s, window_s)
