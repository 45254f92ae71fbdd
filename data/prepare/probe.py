"""Check that a file opens as a video. As a program, it checks one path a line (runtime/killable.py)."""

from data.containers import first_frame
from data.video_file import Unreadable
from runtime.killable import serve


def probe(path: str) -> None:
    """Open the file's container and decode the first frame of its video stream.

    Raises ValueError with the reason if either fails.
    """
    try:
        first_frame(path)
    except Unreadable as error:
        raise ValueError(str(error)) from None


if __name__ == "__main__":
    serve(probe)
