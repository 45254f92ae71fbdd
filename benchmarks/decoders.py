"""decord against PyAV on a few frames of a long clip: `python -m benchmarks.decoders`.

Both decode the same frames of the same file in turn, in one process, on one thread each, as a decode task
does. decord's time holds its look at the packets, which is also told alone. The clip is H.264 with a key
frame every two seconds and B-frames, as streaming services encode.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.machine import describe_machine, write_figures
from data.decord_video import trusted_packets
from data.frames import look_at
from data.video_file import DecoderName

DECODERS: tuple[DecoderName, ...] = ("decord", "pyav")
_KEY_FRAME_EVERY_S = 2


def make_clip(path: Path, seconds: int, height: int, width: int, fps: int) -> None:
    """A textured picture that moves under a camera, with a little noise."""
    import av
    import cv2

    rng = np.random.default_rng(0)
    margin = 4 * seconds * fps
    size = (width + margin, height + margin)
    coarse = rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    picture = cv2.GaussianBlur(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), (0, 0), 2)
    grain = rng.normal(0, 3, (8, height, width, 1))
    options = {"preset": "veryfast", "crf": "23", "bf": "3"}
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=fps, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.gop_size = _KEY_FRAME_EVERY_S * fps
        for number in range(seconds * fps):
            x, y = 3 * number, 2 * number
            view = picture[y : y + height, x : x + width]
            pixels = np.clip(view + grain[number % len(grain)], 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def measure(path: Path, n_frames: int, max_px: int | None, rounds: int) -> dict[str, list[float]]:
    """Seconds of each decoder in each round; the decoders take turns, and a first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in DECODERS}
    for number in range(rounds + 1):
        for name in DECODERS:
            started = time.perf_counter()
            look_at(path, n_frames, max_px, name)
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=10, help="of the clip (default: %(default)s)")
    parser.add_argument("--height", type=int, default=1080)
    parser.add_argument("--width", type=int, default=1920)
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--frames", type=int, default=6, help="that are decoded (default: %(default)s)")
    parser.add_argument(
        "--max-px", type=int, default=448, help="frames are shrunk to it (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "clip.mp4"
        make_clip(path, arguments.seconds, arguments.height, arguments.width, arguments.fps)
        seconds = measure(path, arguments.frames, arguments.max_px, arguments.rounds)
        looks_s = []
        for _ in range(arguments.rounds):
            began_s = time.perf_counter()
            trusted_packets(str(path))
            looks_s.append(time.perf_counter() - began_s)
        (one, info), (other, _) = (look_at(path, arguments.frames, None, name) for name in DECODERS)
    ratios = [pyav / decord for decord, pyav in zip(seconds["decord"], seconds["pyav"], strict=True)]
    figures = {
        "clip": f"{arguments.width}x{arguments.height}, {arguments.seconds} s at {arguments.fps} frames/s",
        "frames": f"{arguments.frames} of {info.n_total}",
        "look_at_packets_ms": round(1e3 * median(looks_s), 1),
        "decord_s": round(median(seconds["decord"]), 3),
        "pyav_s": round(median(seconds["pyav"]), 3),
        "pyav_over_decord": round(median(ratios), 2),
        "pyav_over_decord_range": [round(min(ratios), 2), round(max(ratios), 2)],
        "same_pixels": bool(np.array_equal(one, other)),
    }
    write_figures({"machine": describe_machine()} | figures, arguments.json)


if __name__ == "__main__":
    main()
