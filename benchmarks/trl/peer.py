"""TRL's side of the job, in a process of its own: `python -m benchmarks.trl.peer JOB.json OUT.json`.

JOB.json holds `job`, `threads`, `batch` and `bf16`. Writes the seconds of every update, of the clock and of
the processor.
"""

import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.trl.job import Job, peer_settings


def train(job: Job, threads: int, batch: int, bf16: bool) -> dict[str, Any]:
    import datasets
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor, TrainerCallback

    import trl
    from data.frames import read_frames
    from data.manifest import read_manifest
    from data.prompt import messages, unsampleable_token_ids
    from rewards.trl import reward_functions

    torch.set_num_threads(threads)
    rows = [
        {
            "prompt": messages(job.n_frames),
            "images": [
                Image.fromarray(frame) for frame in read_frames(video.path, job.n_frames, job.frame_px)
            ],
            "video_id": video.video_id,
            "mos": video.mos,
        }
        for video in read_manifest(Path(job.manifest))
        if video.split == "train"
    ]
    processor = AutoProcessor.from_pretrained(job.model)
    marks: list[tuple[float, float]] = []

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            marks.append((time.perf_counter(), time.process_time()))

        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append((time.perf_counter(), time.process_time()))
            print(f"update {len(marks) - 1}: {marks[-1][0] - marks[-2][0]:.1f} s", flush=True)

    settings = peer_settings(
        job, Path(job.manifest).parent / "trl", batch, bf16, unsampleable_token_ids(processor)
    )
    trainer = trl.GRPOTrainer(
        model=AutoModelForImageTextToText.from_pretrained(job.model, dtype=torch.float32),
        processing_class=processor,
        reward_funcs=reward_functions(),
        train_dataset=datasets.Dataset.from_list(rows),
        args=trl.GRPOConfig(**settings),
        callbacks=[Clock()],
    )
    trainer.train()
    steps = [log for log in trainer.state.log_history if "completions/mean_length" in log]
    return {
        "version": trl.__version__,
        "clock_s": [b[0] - a[0] for a, b in pairwise(marks)],
        "processor_s": [b[1] - a[1] for a, b in pairwise(marks)],
        "completion_tokens": [log["completions/mean_length"] for log in steps],
        "reward": [log["reward"] for log in steps],
        "reward_std": [log["reward_std"] for log in steps],
    }


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text())
    figures = train(Job(**request["job"]), request["threads"], request["batch"], request["bf16"])
    Path(sys.argv[2]).write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
