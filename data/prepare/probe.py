"""Checks that a file opens as a video. Run as a program, it checks one file per line
(runtime/killable.py)."""

from typing import Any

from data.containers import first_frame
from data.fetch_settings import DEFAULT_FETCHING, Fetching
from data.file_cache import local_file
from data.video_file import Unreadable, VideoError
from runtime.killable import serve


def probe(path: str, fetching: Fetching = DEFAULT_FETCHING) -> None:
    """Open the file's container and decode the first frame of its video stream.

    Raises ValueError with the reason if either fails, or the file at a URL cannot be fetched.
    """
    try:
        with local_file(path, fetching) as file:
            first_frame(file)
    except VideoError as error:
        raise ValueError(error.reason) from None
    except Unreadable as error:
        raise ValueError(str(error)) from None


def _answer(job: Any) -> None:
    path, fetching = job
    probe(path, Fetching(**fetching))


if __name__ == "__main__":
    serve(_answer)
