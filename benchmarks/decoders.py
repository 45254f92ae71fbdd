"""PyAV against decord and torchcodec, as a decode task uses them: `python -m benchmarks.decoders`.

All decode the same frames of the same files, in turns, in one process, on one thread each, and shrink them in
the same way. A first round warms up. decord's and PyAV's time holds the look at the packets that makes sure
of the frames, which is also told alone. The long clip is H.264 with a key frame every two seconds and
B-frames, as streaming services encode; the demo's clips are short and small.

torchcodec takes part where it can be imported. It needs FFmpeg's libraries on the machine, and a build for
the installed torch: `pip install --no-deps --target FOLDER torchcodec==0.13.0` and `--torchcodec FOLDER`.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.machine import describe_machine, write_figures
from data.containers import open_container, video_stream
from data.frames import decode_video, frame_indices
from data.packets import index_packets
from data.picture import Picture, fit

Decode = Callable[[Path, int, int | None], np.ndarray]
_KEY_FRAME_EVERY_S = 2
_DEMO_CLIPS = Path("demo/built")


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


def decoders(torchcodec_folder: Path | None) -> dict[str, Decode]:
    found: dict[str, Decode] = {
        "pyav": lambda path, n, max_px: decode_video(path, n, max_px, "pyav")[0],
        "decord": lambda path, n, max_px: decode_video(path, n, max_px, "decord")[0],
    }
    if torchcodec_folder is not None:
        sys.modules.pop("torchcodec", None)  # an environment may keep one out that does not load
        sys.path.insert(0, str(torchcodec_folder))
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError):
        return found

    def torchcodec(path: Path, n_frames: int, max_px: int | None) -> np.ndarray:
        # "exact" reads through the packets, as ours do; "approximate" believes the header.
        reader = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
        indices = frame_indices(reader.metadata.num_frames, n_frames)
        frames = reader.get_frames_at(indices.tolist()).data.numpy()
        return np.stack([fit(Picture(frame, Fraction(1)), max_px) for frame in frames])

    return found | {"torchcodec": torchcodec}


def measure(
    use: dict[str, Decode], paths: Sequence[Path], n_frames: int, max_px: int | None, rounds: int
) -> dict[str, Any]:
    """Frames a second of processor time of each, which others' work on the machine disturbs less than the
    clock: the median and the range of `rounds`."""
    rates: dict[str, list[float]] = {name: [] for name in use}
    for number in range(rounds + 1):
        for name, decode in use.items():
            started = time.process_time()
            for path in paths:
                decode(path, n_frames, max_px)
            if number:
                rates[name].append(n_frames * len(paths) / (time.process_time() - started))
    return {
        name: {"frames_per_s": round(median(r), 1), "range": [round(min(r), 1), round(max(r), 1)]}
        for name, r in rates.items()
    }


def look_ms(path: Path, rounds: int) -> float:
    """Of the look at a file's packets."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        with open_container(str(path)) as container:
            index_packets(container, video_stream(container), str(path))
        seconds.append(time.perf_counter() - started)
    return round(1e3 * median(seconds), 2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=10, help="of the clip (default: %(default)s)")
    parser.add_argument("--height", type=int, default=1080)
    parser.add_argument("--width", type=int, default=1920)
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--frames", type=int, nargs="+", default=[6, 64], help="decoded (default: 6 64)")
    parser.add_argument("--max-px", type=int, default=448, help="frames are shrunk to it (default: 448)")
    parser.add_argument("--clips", type=int, default=100, help="of the demo (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--torchcodec", type=Path, metavar="FOLDER", help="where a fitting build of it lies")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    arguments = parser.parse_args()
    use, rounds = decoders(arguments.torchcodec), arguments.rounds
    clips = sorted(_DEMO_CLIPS.rglob("*.mp4"))[: arguments.clips]
    figures: dict[str, Any] = {"machine": describe_machine()}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "clip.mp4"
        make_clip(path, arguments.seconds, arguments.height, arguments.width, arguments.fps)
        clip = f"{arguments.width}x{arguments.height}, {arguments.seconds} s at {arguments.fps} frames/s"
        for n_frames in arguments.frames:
            figures[f"{n_frames} frames of {clip}"] = measure(use, [path], n_frames, arguments.max_px, rounds)
            print(figures[f"{n_frames} frames of {clip}"], flush=True)
        figures[f"look at the packets of {clip}, ms"] = look_ms(path, rounds)
        few = [decode(path, 6, None) for decode in use.values()]
    if clips:
        figures[f"4 frames each of {len(clips)} clips of the demo"] = measure(use, clips, 4, 448, rounds)
        figures["look at the packets of a demo clip, ms"] = look_ms(clips[0], rounds)
    figures["same_pixels"] = all(np.array_equal(few[0], other) for other in few[1:])
    write_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
