"""How long a label list is looked up and its videos are opened: `python -m benchmarks.prepare`.

Makes a folder of tiny clips named as in the list (or, without a list, as many as asked for), prepares it once
by existence and once by opening every file, and reads the manifest as a run does.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.machine import describe_machine, write_figures
from data.benchmarks.labels import read_labels
from data.benchmarks.sets import Benchmark
from data.lossless import write_lossless
from data.manifest import read_manifest
from data.prepare.labelled import prepare

T = TypeVar("T")
_DISTINCT_CLIPS = 8


def make_list(folder: Path, count: int) -> Path:
    """An annotation list of `count` videos in sub-folders of a thousand."""
    annotations = [
        {"image_id": f"batch{n // 1000}/{n}.mp4", "ann_type": "score", "score": f"{n % 101}"}
        for n in range(count)
    ]
    path = folder / "labels.json"
    path.write_text(json.dumps({"annotations": annotations}))
    return path


def make_videos(names: list[str], folder: Path, px: int) -> None:
    """Tiny clips under these names: hard links to a handful of files of 12 frames."""
    clips = folder.parent / "clips"
    clips.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(_DISTINCT_CLIPS):
        write_lossless(clips / f"{number}.mp4", rng.integers(0, 256, (12, px, px, 3), dtype=np.uint8))
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(clips / f"{number % _DISTINCT_CLIPS}.mp4", path)


def timed(call: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    result = call()
    return result, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--labels", type=Path, help="annotation list; default: one of --count videos")
    parser.add_argument("--count", type=int, default=7182, help="videos (default: %(default)s)")
    parser.add_argument("--px", type=int, default=96, help="side of the clips (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        labels = arguments.labels or make_list(home, arguments.count)
        names = [row.path for row in read_labels(labels).rows]
        videos, out = home / "videos", home / "manifest.parquet"
        make_videos(names, videos, arguments.px)
        benchmark = Benchmark("list", "", "test", (0, 100))
        found, exists_s = timed(lambda: prepare(benchmark, labels, videos, out, check="exists"))
        rows, read_s = timed(lambda: read_manifest(out))
        opened, open_s = timed(
            lambda: prepare(benchmark, labels, videos, out, check="open", processes=arguments.workers)
        )
    assert found.rows == opened.rows == len(rows) == len(names), "every clip is there and opens"
    figures = {
        "videos": len(names),
        "px": arguments.px,
        "workers": arguments.workers,
        "exists_s": round(exists_s, 2),
        "read_manifest_s": round(read_s, 2),
        "open_s": round(open_s, 2),
        "opened_per_s": round(len(names) / open_s, 1),
        "open_over_exists": round(open_s / exists_s, 1),
    }
    write_figures({"machine": describe_machine()} | figures, arguments.json)


if __name__ == "__main__":
    main()
