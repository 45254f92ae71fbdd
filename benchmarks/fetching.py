"""Videos a second decoded from object storage against local files: `python -m benchmarks.fetching`.

An S3 server (moto) and a plain HTTP server run on this machine, so that the figures hold what fetching costs
in requests, copies and locks, and none of a network's time. Processes decode the same videos in turns: from
local files, and by URL with an empty cache (cold) and with the cache of the turn before (warm). A first round
warms the processes up. All files are in the machine's page cache.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.decoders import make_clip
from benchmarks.machine import describe_machine, write_figures
from data.decode import Reading, decode_ref
from data.fetch_settings import Fetching
from data.records import VideoRef
from data.video_file import VideoError
from tests.data.file_servers import FlakyServer, http_server, s3_server, upload

_DEMO_CLIPS = Path("demo/built")


def decode(path: str, n_frames: int, cache: str) -> None:
    fetching = Fetching(cache, timeout_s=60.0)
    info, _ = decode_ref(VideoRef(path, path, n_frames), Reading(448, fetching=fetching))
    if isinstance(info, VideoError):
        raise RuntimeError(str(info))


def videos_per_s(pool: ProcessPoolExecutor, paths: Sequence[str], n_frames: int, cache: Path) -> float:
    started = time.perf_counter()
    for done in [pool.submit(decode, path, n_frames, str(cache)) for path in paths]:
        done.result(600)
    return len(paths) / (time.perf_counter() - started)


def measure(files: Sequence[Path], n_frames: int, processes: int, rounds: int) -> dict[str, Any]:
    """Videos a second by where they lie: the median and the range of the rounds."""
    served = FlakyServer({f"/{number}.mp4": file.read_bytes() for number, file in enumerate(files)})
    with s3_server(), http_server(served), tempfile.TemporaryDirectory() as scratch:
        places = {
            "s3": [upload(file, f"{number}.mp4") for number, file in enumerate(files)],
            "http": [f"{served.url}{name}" for name in served.files],
        }
        rates: dict[str, list[float]] = {}
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            for number in range(rounds + 1):
                turn = {"local files": videos_per_s(pool, [*map(str, files)], n_frames, Path(scratch))}
                for name, urls in places.items():
                    cache = Path(scratch) / name
                    shutil.rmtree(cache, ignore_errors=True)
                    turn[f"{name}, cold"] = videos_per_s(pool, urls, n_frames, cache)
                    turn[f"{name}, warm"] = videos_per_s(pool, urls, n_frames, cache)
                if number:
                    for name, rate in turn.items():
                        rates.setdefault(name, []).append(rate)
    local = median(rates["local files"])
    return {
        "videos": len(files),
        "megabytes": round(sum(file.stat().st_size for file in files) / 1e6, 1),
    } | {
        name: {
            "videos_per_s": round(median(found), 1),
            "range": [round(min(found), 1), round(max(found), 1)],
            "of_local": round(median(found) / local, 2),
        }
        for name, found in rates.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=100, help="of the demo (default: %(default)s)")
    parser.add_argument("--long-clips", type=int, default=8, help="5 s of 720p (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=6, help="decoded of a video (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    arguments = parser.parse_args()
    use = arguments.frames, arguments.processes, arguments.rounds
    figures: dict[str, Any] = {"machine": describe_machine()}
    clips = sorted(_DEMO_CLIPS.rglob("*.mp4"))[: arguments.clips]
    if clips:
        figures["clips of the demo"] = measure(clips, *use)
    with tempfile.TemporaryDirectory() as scratch:
        first = Path(scratch) / "0.mp4"
        make_clip(first, 5, 720, 1280, 30)
        long = [first, *(Path(scratch) / f"{number}.mp4" for number in range(1, arguments.long_clips))]
        for copy in long[1:]:
            shutil.copy(first, copy)
        figures["5 s of 720p"] = measure(long, *use)
    write_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
