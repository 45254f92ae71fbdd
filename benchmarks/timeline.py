"""Memory of `launch.py score --timeline`: `python -m benchmarks.timeline --json memory.json`.

Makes an hour of small video, scores it in windows, and prints the resident memory of the command with all the
processes that it started, at each tenth of the windows.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import psutil

from benchmarks.machine import describe_machine, write_figures

ROOT = Path(__file__).resolve().parent.parent
FPS, PX, GOP = 25, 96, 250


def make_video(path: Path, seconds: int) -> None:
    """A bright bar that wanders over a gradient."""
    y, x = np.mgrid[:PX, :PX].astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "g": str(GOP)})
        stream.width = stream.height = PX
        stream.pix_fmt = "yuv420p"
        for number in range(seconds * FPS):
            picture = np.stack([x, y, x + np.uint8(number % 256)], axis=-1)
            picture[:, number % PX] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def resident_mb(root: psutil.Process) -> float:
    """Of a process and all below it; what they share is counted once for each."""
    total = 0
    for process in (root, *root.children(recursive=True)):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3600, help="length of the video")
    parser.add_argument("--window", type=float, default=10.0, help="seconds of a window")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        video, out = Path(folder) / "long.mp4", Path(folder) / "scores.jsonl"
        make_video(video, arguments.seconds)
        n_windows = round(arguments.seconds / arguments.window)
        command = [sys.executable, str(ROOT / "launch.py"), "score", str(video), "--out", str(out)]
        command += [f"--timeline={arguments.window:g}", f"--checkpoint={ROOT / 'demo' / 'tiny-internvl'}"]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        root, first_s = psutil.Process(process.pid), 0.0
        memory_mb: dict[int, int] = {}
        while process.poll() is None:
            rows = out.read_bytes().count(b"\n") if out.exists() else 0
            first_s = first_s or (time.perf_counter() if rows else 0.0)
            tenth = rows * 10 // n_windows
            if rows and tenth < 10:
                memory_mb[tenth * 10] = round(max(memory_mb.get(tenth * 10, 0), resident_mb(root)))
            time.sleep(0.2)
        figures = {
            "video_s": arguments.seconds,
            "windows": n_windows,
            "returncode": process.returncode,
            "seconds": round(time.perf_counter() - started, 1),
            "seconds_after_the_first_score": round(time.perf_counter() - first_s, 1),
            "most_resident_mb_at_percent": memory_mb,
        }
    write_figures({"machine": describe_machine()} | figures, arguments.json)


if __name__ == "__main__":
    main()
