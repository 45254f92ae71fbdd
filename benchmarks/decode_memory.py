"""Peak memory of decoding one video, for more and more frames of it: `python -m benchmarks.decode_memory`.

Each count is decoded by a process of its own, as a decode task does it. Its peak is given above what it held
after importing all that it needs, beside the size of the frames that it hands on: those grow with their
number, the rest should not.
"""

import argparse
import re
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.decoders import make_clip
from benchmarks.machine import describe_machine, write_figures
from data.video_file import DecoderName

_MIB = 2**20


def peak(path: str, n_frames: int, max_px: int, decoder: DecoderName) -> dict[str, Any]:
    """Of this process, which must be new."""
    from data.decode import Reading, decode_ref
    from data.records import VideoRef

    before = _peak_bytes()
    info, frames = decode_ref(VideoRef("clip", path, n_frames), Reading(max_px, decoder))
    after = _peak_bytes()
    if frames is None:
        raise RuntimeError(str(info))
    return {
        "frames": n_frames,
        "imports_mib": round(before / _MIB),
        "peak_above_imports_mib": round((after - before) / _MIB),
        "handed_on_mib": round(frames.nbytes / _MIB),
    }


def _peak_bytes() -> int:
    """Peak resident memory of this program. getrusage would count the process that started it, too."""
    (kib,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kib) * 1024


def measure(path: Path, counts: Sequence[int], max_px: int, decoder: DecoderName) -> list[dict[str, Any]]:
    rows = []
    for count in counts:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            rows.append(process.submit(peak, str(path), count, max_px, decoder).result())
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 64, 256])
    parser.add_argument("--height", type=int, default=2160)
    parser.add_argument("--width", type=int, default=3840)
    parser.add_argument("--seconds", type=int, default=11, help="of the clip, at 24 frames a second")
    parser.add_argument("--max-px", type=int, default=448)
    parser.add_argument("--decoder", choices=["pyav", "decord"], default="pyav")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "clip.mp4"
        make_clip(path, arguments.seconds, arguments.height, arguments.width, fps=24)
        rows = measure(path, arguments.frames, arguments.max_px, arguments.decoder)
    clip = f"{arguments.width}x{arguments.height}, {arguments.seconds} s at 24 frames/s"
    write_figures({"machine": describe_machine(), "clip": clip, "peaks": rows}, arguments.json)


if __name__ == "__main__":
    main()
