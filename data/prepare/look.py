"""What a run's decoder makes of one file. As a program, it answers for one a line (data/isolated.py)."""

from dataclasses import asdict
from typing import Any

from data.decode import look
from data.frames import VideoError
from data.isolated import serve
from data.records import VideoRef


def answer(job: Any) -> dict[str, Any]:
    """The FrameInfo of the frames that a run would look at, as a dict with its marks, or `kind` and `reason` of its refusal.

    The job holds path, n_frames, max_px and decoder.
    """
    ref = VideoRef(job["path"], job["path"], job["n_frames"])
    info, _ = look(ref, job["max_px"], job["decoder"])
    if isinstance(info, VideoError):
        return {"kind": info.kind, "reason": info.reason}
    return asdict(info) | {"marks": info.facts.marks}


if __name__ == "__main__":
    serve(answer)
