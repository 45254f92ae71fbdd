"""What a run's decoder makes of one file. As a program, it answers for one a line (runtime/killable.py)."""

from dataclasses import asdict
from typing import Any

from data.decode import Reading, look
from data.frames import FrameInfo
from data.records import VideoRef
from data.video_file import VideoError
from runtime.killable import serve

_WORDS = {
    "sar": "its pixels are {}",
    "interlaced": "its fields are shown woven together",
    "transfer": "{} is not tone-mapped",
    "truncated": "{}",
    "damaged_frames": "frames {} are damaged",
}


def answer(job: Any) -> dict[str, Any]:
    """The FrameInfo of the frames that a run would look at, as a dict, and `marks`; or `kind` and `reason` of
    a refusal.

    The job holds path, n_frames, max_px and decoder.
    """
    ref = VideoRef(job["path"], job["path"], job["n_frames"])
    info, _ = look(ref, Reading(job["max_px"], job["decoder"]))
    if isinstance(info, VideoError):
        return {"kind": info.kind, "reason": info.reason}
    return asdict(info) | {"marks": marks(info)}


def marks(info: FrameInfo) -> list[str]:
    """What to know of a video that can be decoded; nothing for most."""
    found = [
        _WORDS[name].format(", ".join(map(str, value)) if isinstance(value, tuple) else value)
        for name, value in info.facts.marks.items()
    ]
    if info.n_total < len(info.indices):
        found.append(f"it has {info.n_total} frames, of which {len(info.indices)} are taken")
    return found


if __name__ == "__main__":
    serve(answer)
