"""How long a video is, found out in a process that may be killed."""

from typing import Any

from data.frames import video_duration_s
from data.video_file import DecoderName, VideoError
from runtime.killable import run_isolated, serve


def duration_s(path: str, decoder: DecoderName, timeout_s: float, frame_rate: float | None = None) -> float:
    """In seconds. Raises VideoError if the file cannot be read, or not within `timeout_s`."""
    (outcome,) = run_isolated("data.duration", [[path, decoder, frame_rate]], 1, timeout_s)
    if outcome.failure:
        raise VideoError(path, outcome.failure)
    return float(outcome.result)


def _duration_s(job: Any) -> float:
    try:
        return video_duration_s(*job)
    except VideoError as error:
        raise ValueError(error.reason) from None


if __name__ == "__main__":
    serve(_duration_s)
