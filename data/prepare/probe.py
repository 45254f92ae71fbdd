"""Whether a file opens as a video. As a program, it answers for one path a line (data/isolated.py)."""

import av

from data.isolated import serve


def probe(path: str) -> None:
    """Open the file's container and decode the first frame of its first video stream.

    Raises ValueError with the reason if one of these fails, OSError if there is no such file.
    """
    try:
        # Old files carry titles in any encoding: no reason to leave them out.
        with av.open(path, metadata_errors="replace") as container:
            if not container.streams.video:
                raise ValueError("it has no video stream")
            container.streams.video[0].codec_context.thread_count = 1
            if next(container.decode(video=0), None) is None:
                raise ValueError("it has no frames")
    except av.FFmpegError as error:
        raise ValueError(error.strerror or str(error)) from None


if __name__ == "__main__":
    serve(probe)
