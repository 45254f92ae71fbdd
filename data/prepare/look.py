"""What a run's decoder makes of one file. As a program, it answers for one a line (data/isolated.py)."""

from dataclasses import asdict
from typing import Any

from data.decode import look
from data.frames import FrameInfo
from data.records import VideoRef
from data.video_file import VideoError
from runtime.killable import serve


def answer(job: Any) -> dict[str, Any]:
    """The FrameInfo of the frames that a run would look at, as a dict, and `marks`; or `kind` and `reason` of
    a refusal.

    The job holds path, n_frames, max_px and decoder.
    """
    ref = VideoRef(job["path"], job["path"], job["n_frames"])
    info, _ = look(ref, job["max_px"], job["decoder"])
    if isinstance(info, VideoError):
        return {"kind": info.kind, "reason": info.reason}
    return asdict(info) | {"marks": marks(info)}


def marks(info: FrameInfo) -> list[str]:
    """What to know of a video that can be decoded; nothing for most."""
    facts, n_shown = info.facts, len(info.indices)
    found = {
        f"frames {', '.join(map(str, facts.damaged_frames))} are damaged": facts.damaged_frames,
        facts.truncated: facts.truncated,
        "its fields are shown woven together": facts.interlaced,
        f"{facts.transfer} is not tone-mapped": facts.hdr,
        f"it has {info.n_total} frames, of which {n_shown} are taken": info.n_total < n_shown,
    }
    return [text for text, applies in found.items() if applies]


if __name__ == "__main__":
    serve(answer)
