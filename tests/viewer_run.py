"""A small run directory for the viewer to show."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.config import RunConfig, dump_config
from data.config import DataConfig
from monitoring.run_dir import RunDirectory

G, UPDATES = 3, 4
PERTURBATION = {"kind": "reverse", "seed": 1}
HOSTILE = "<img src=x onerror=document.title='owned'><answer>3.00</answer>"


METHOD = ("regression", "ranking", "temporal", "format")


def group_record(
    videos: list[Path], update: int, place: int, attempt: int = 0, rewards: Sequence[str] = METHOD
) -> dict[str, Any]:
    """Video `place`, with scores that depend on the update; its first answer does not parse."""
    scores = [None, 2.0 + place + update / 10, 3.0]
    ref = {"video_id": videos[place].stem, "path": str(videos[place]), "n_frames": 4, "window_s": None}
    copy = {
        "texts": [
            HOSTILE,
            "<think>blur</think><answer>2.00</answer>",
            "<think>b</think><answer>3.00</answer>",
        ],
        "finish_reasons": ["stop"] * G,
        "versions": [[update]] * G,
        "seeds": [1, 2, 3],
        "scores": scores,
    }
    values = {name: [0.0, 1.0, 2.0] for name in ("total", *rewards)}
    return {
        "attempt": attempt,
        "update": update,
        "epoch": 0,
        "cohort": update,
        "video_id": videos[place].stem,
        "mos": 3.0,
        "label_set": "demo",
        "status": "trained",
        "reason": "",
        "worker": f"rollout-{place}",
        "clean": copy | values | {"ref": ref | {"perturbation": None}, "advantages": [-1.0, 0.0, 1.0]},
        "perturbed": copy | {"ref": ref | {"perturbation": PERTURBATION}},
    }


def metrics_record(update: int, attempt: int = 0) -> dict[str, Any]:
    values = {"reward/total": 1.0 + attempt + update / 10, "timing/step_s": 4.0, "timing/wait_s": 1.0}
    values |= {"learner/update_s": 2.0, "sync/s": 0.5, "sync/load_s": 0.5, "rollout/tokens": 40.0}
    return {"attempt": attempt, "update": update, "time": 1000.0 + 10 * update} | values


def predictions(videos: list[Path], shift: float) -> list[dict[str, Any]]:
    """A headline row a video; the last one has no score."""
    rows = []
    for number, path in enumerate(videos):
        score = None if number == len(videos) - 1 else min(5.0, 1.0 + 0.5 * number + shift)
        rows.append(
            {
                "video_id": path.stem,
                "path": str(path),
                "mos": 1.0 + 0.6 * number,
                "source": "",
                "headline": True,
                "distortion": "blur" if number % 2 else "noise",
                "greedy": score,
                "text": HOSTILE,
                "samples": [2.0, None, 3.0],
                "failure": "",
            }
        )
    return rows


def make_run(path: Path, videos: list[Path], own_rewards: Sequence[str] = ()) -> RunDirectory:
    """A small run of four updates of two videos, evaluated before and after.

    Without rewards of its own it is recorded as in old runs, whose run.json names no reward.
    """
    rewards = (*METHOD, *own_rewards)
    run = RunDirectory(path)
    data = DataConfig(manifest=videos[0].parent / "manifest.csv", frames_per_video=4, max_frame_px=48)
    run.create(dump_config(RunConfig(data=data)), "hash", [{"name": name} for name in rewards])
    if not own_rewards:
        state = run.state()
        del state["rewards"]
        (path / "run.json").write_text(json.dumps(state))
    run.start_attempt(0)
    for update in range(UPDATES):
        run.append("groups", *(group_record(videos, update, place, 0, rewards) for place in range(2)))
        run.append("metrics", metrics_record(update) | {f"reward/{name}": 0.5 for name in own_rewards})
    failure = {"video_id": "bad", "path": "bad.mp4", "stage": "decode", "reason": "it is empty"}
    run.append("failures", {"attempt": 0, "update": 1} | failure)
    run.append("faults", {"attempt": 0, "time": 1.0, "actor": "rollout-1", "reason": "killed"})
    for version, shift in ((0, 0.0), (UPDATES, 0.3)):
        record = {"attempt": 0, "update": version - 1, "version": version, "split": "test", "videos": 6}
        run.append("evaluations", record | {"srcc": 0.5, "srcc_low": 0.1, "srcc_high": 0.9, "plcc": None})
        run.write_predictions(version, "test", predictions(videos, shift))
    return run
