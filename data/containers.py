"""Opening a file with PyAV, for the decoders and for whoever only looks at the packets."""

from typing import Any

import av

from data.video_file import Unreadable


def open_container(path: str, **options: str) -> Any:
    """A file's container, with FFmpeg's `options` of one. Raises Unreadable."""
    try:
        # Old files carry titles in any encoding: no reason not to show their frames.
        return av.open(path, metadata_errors="replace", container_options=options)
    except (av.FFmpegError, OSError) as error:
        raise Unreadable(reason_of(error)) from None


def video_stream(container: Any) -> Any:
    """The stream that a player shows, which the picture of a cover is not. Raises Unreadable."""
    stream = container.streams.best("video")
    if stream is None:
        raise Unreadable("it has no video stream")
    if stream.codec_context is None:
        raise Unreadable("nothing decodes its video stream")
    return stream


def reason_of(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
