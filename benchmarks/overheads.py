"""What this system adds to the libraries under it: `python -m benchmarks.overheads --json overheads.json`.

    rollout   the fleet against a bare vllm.LLM.generate, same prompts, same seed each request
    sync      transport of weights against a bare broadcast; gathering, loading, cache reset apart
    decode    decoding in a Ray task against decord itself
    control   a step in which engines and learner take no time, and the rewards of a cohort

Parts can be named: `python -m benchmarks.overheads rollout sync`. What share of a real step the controller
and the rewards take is told by `python -m benchmarks.where_time_goes RUN`.
"""

import argparse
import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from benchmarks.decoders import make_clip
from benchmarks.machine import describe_machine, write_figures
from benchmarks.overhead import control, decode, rollout, sync
from benchmarks.small_model import FRAME_PX, LARGE, make_small_model
from cluster.config import load_config

ROOT = Path(__file__).resolve().parent.parent
OBJECT_STORE_MB = 1200
DEMO_STEP = (16, 8)


def measure_rollout(folder: Path, repeats: int) -> dict[str, Any]:
    demo = rollout.Size(ROOT / "demo" / "tiny-internvl", 16, 8, 32, 4, frame_px=96, max_model_tokens=512)
    real = rollout.Size(make_small_model(folder / "small"), 4, 8, 200, 6, FRAME_PX, max_model_tokens=2560)
    return {"rollout": [asyncio.run(rollout.compare(size, repeats)) for size in (demo, real)]}


def measure_sync(folder: Path, repeats: int) -> dict[str, Any]:
    model = make_small_model(folder / "large", LARGE)
    config = load_config(
        None,
        [
            f"--model.path={model}",
            "--rollout.replicas=1",
            "--learner.ranks=1",
            "--learner.kl_coefficient=0",
            "--rollout.max_completion_tokens=32",
            "--rollout.max_model_tokens=4096",
        ],
    )
    pushed = asyncio.run(sync.phases(config, repeats))
    moved = asyncio.run(sync.transport(sync.bucket_shapes(model, config.learner.bucket_mb), repeats))
    return {"push": [pushed], "transport": [{"MB": round(4 * pushed["parameters"] / 1e6)} | moved]}


def measure_decode(folder: Path, repeats: int) -> dict[str, Any]:
    clips = {"96x96, 1 s": (1, 96, 96, 24), "1920x1080, 10 s": (10, 1080, 1920, 30)}
    rows = []
    for number, (name, (seconds, height, width, fps)) in enumerate(clips.items()):
        path = folder / f"clip{number}.mp4"
        make_clip(path, seconds, height, width, fps)
        rows.append(asyncio.run(decode.compare(name, path, 6, repeats)))
    return {"decode": rows}


def measure_control(folder: Path, repeats: int) -> dict[str, Any]:
    return {
        "control": [control.step_ms(*DEMO_STEP, updates=10 * repeats)],
        "rewards": [asyncio.run(control.reward_ms(*DEMO_STEP, completion_tokens=200, repeats=10 * repeats))],
    }


PARTS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "rollout": measure_rollout,
    "sync": measure_sync,
    "decode": measure_decode,
    "control": measure_control,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--repeats", type=int, default=5, help="counted turns of each side")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")

    figures: dict[str, Any] = {"machine": describe_machine()}
    # Ray has its workers stand back behind the machine's other work, unlike this process.
    os.environ.update(RAY_worker_niceness="0")
    ray.init(
        num_cpus=8, include_dashboard=False, log_to_driver=False, object_store_memory=OBJECT_STORE_MB * 2**20
    )
    try:
        with tempfile.TemporaryDirectory(prefix="overheads-") as folder:
            for name in arguments.parts or PARTS:
                figures |= PARTS[name](Path(folder), arguments.repeats)
    finally:
        ray.shutdown()
    write_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
