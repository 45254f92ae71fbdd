"""Whether a file opens as a video. As a program, it answers for one path a line (runtime/killable.py)."""

import av

from data.containers import open_container, reason_of, video_stream
from data.video_file import Unreadable
from runtime.killable import serve


def probe(path: str) -> None:
    """Open the file's container and decode the first frame of the video stream that is looked at.

    Raises ValueError with the reason if one of these fails.
    """
    try:
        with open_container(path) as container:
            stream = video_stream(container)
            stream.codec_context.thread_count = 1
            if next(container.decode(stream), None) is None:
                raise ValueError("it has no frames")
    except (Unreadable, av.FFmpegError) as error:
        raise ValueError(reason_of(error)) from None


if __name__ == "__main__":
    serve(probe)
