"""What the engines of a LoRA run get, adapters against merged weights: `python -m benchmarks.adapter_push`.

Two learners and two engines on the tiny base take turns at updates of the same size: one pair sends adapters,
the other merged weights. Reported are the bytes and seconds of a push, and the mismatch KL (k3) of the
learner's policy to its engine's over answers that the engine samples after the push.

Everything computes in float32. With `--bfloat16` the base is rounded to bfloat16 at the start, and what is
sent at every push, as on GPUs: the mismatch is then that of the weights' precision alone. Takes minutes.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import ray

from benchmarks.machine import describe_machine, write_figures
from cluster.config import RunConfig, load_config
from cluster.planning.adapters import adapter_serving
from cluster.planning.architecture import read_architecture
from data.records import Group, SamplingRequest, VideoRef, Weights
from data.tensor_bytes import Bucket, bucket_of, tensors_of
from learner.group import LearnerGroup
from learner.records import TrainSample
from rollout.fleet import RolloutFleet

N_FRAMES, FRAME_PX = 3, 96
VIDEOS, ANSWERS, TOKENS = 4, 4, 48
SHOWN = (1, 2, 5, 10, 20, 50, 100)
"""Updates whose mismatch is reported."""


class Pair:
    """A learner and an engine, and what goes from the one to the other."""

    def __init__(self, config: RunConfig, updates: int, rounded: bool) -> None:
        path = config.model.path
        adapters = adapter_serving(config, read_architecture(path))
        self.learner = LearnerGroup(
            config.learner, path, total_updates=updates, send_adapters=adapters is not None
        )
        self.fleet = RolloutFleet(config.rollout, path, N_FRAMES, seed=0, adapters=adapters)
        self._rounded = rounded
        self.pushes: list[dict[str, float]] = []
        self.mismatch: list[float] = []

    async def start(self) -> None:
        await self.learner.start()
        await self.fleet.start(1)

    async def close(self) -> None:
        await self.fleet.close()
        await self.learner.close()

    async def sample(self, update: int) -> list[TrainSample]:
        """Answers to the videos of an update, with advantages that mean nothing."""
        samples = []
        for video in range(VIDEOS):
            frames = ray.put(moving_frames(seed=1000 * update + video))
            seeds = tuple(100 * update + 10 * video + answer for answer in range(ANSWERS))
            request = SamplingRequest(VideoRef(f"v{video}", f"/v{video}.mp4", N_FRAMES), seeds, 1.0, TOKENS)
            (group,) = await self.fleet.sample([request], frames, cost_tokens=ANSWERS * TOKENS)
            samples.append(TrainSample(group, frames, [1.0, -1.0] * (ANSWERS // 2)))
        return samples

    async def push(self) -> None:
        started = time.perf_counter()
        weights = await self.learner.weight_buckets()
        gathered = time.perf_counter()
        buckets: list[Bucket] = ray.get(weights.buckets)
        if self._rounded:
            buckets = [as_bfloat16(bucket) for bucket in buckets]
            weights = Weights(weights.version, [ray.put(bucket) for bucket in buckets])
        rounded = time.perf_counter()
        await self.fleet.load_weights_everywhere(weights)
        sent = sum(held.data.nbytes for bucket in buckets for held in bucket.values())
        seconds = {"gather s": gathered - started, "load s": time.perf_counter() - rounded}
        self.pushes.append({"bytes": float(sent)} | seconds)

    async def measure(self, samples: list[TrainSample]) -> None:
        """The mismatch of answers that the engine has just sampled."""
        found = await self.learner.logprobs(samples)
        self.mismatch.append(mismatch_kl([sample.group for sample in samples], found))


def moving_frames(seed: int) -> np.ndarray:
    """uint8 [N_FRAMES, FRAME_PX, FRAME_PX, 3]: blurred noise that drifts."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (8, 8, 3)).repeat(FRAME_PX // 8, 0).repeat(FRAME_PX // 8, 1)
    return np.stack([np.roll(coarse, 4 * shift, 1) for shift in range(N_FRAMES)]).astype(np.uint8)


def mismatch_kl(groups: list[Group], learner: list[list[list[float]]]) -> float:
    """Mean over tokens of k3 = exp(d) - d - 1, d the learner's log-prob less the engine's."""
    d = np.concatenate(
        [
            np.array(ours) - np.array(completion.logprobs)
            for group, rows in zip(groups, learner, strict=True)
            for completion, ours in zip(group.completions, rows, strict=True)
        ]
    )
    return float(np.mean(np.expm1(d) - d))


def as_bfloat16(bucket: Bucket) -> Bucket:
    return bucket_of({name: tensor.bfloat16() for name, tensor in tensors_of(bucket)})


def rounded_base(path: Path, folder: Path) -> Path:
    """A copy of a checkpoint whose weights are those that bfloat16 can hold, in float32."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(path, dtype="float32")
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16().float()
    model.save_pretrained(folder)
    AutoProcessor.from_pretrained(path).save_pretrained(folder)
    return folder


async def compare(model: Path, rate: float, updates: int, rounded: bool) -> dict[str, Any]:
    pairs = {}
    for send in ("adapter", "merged"):
        overrides = [
            f"--model.path={model}",
            f"--learner.lr={rate}",
            f"--learner.lora.send={send}",
            "--learner.lora.rank=16",
            "--learner.ranks=1",
            "--learner.warmup_updates=0",
            "--learner.min_lr_ratio=1",
            f"--rollout.max_completion_tokens={TOKENS}",
            "--rollout.max_model_tokens=512",
        ]
        pairs[send] = Pair(load_config(None, overrides), updates, rounded)
    try:
        for pair in pairs.values():
            await pair.start()
        samples = {send: await pair.sample(0) for send, pair in pairs.items()}
        for update in range(1, updates + 1):
            for send, pair in pairs.items():
                await pair.learner.update(samples[send])
                await pair.push()
                samples[send] = await pair.sample(update)
                await pair.measure(samples[send])
    finally:
        for pair in pairs.values():
            await pair.close()
    return {
        "pushes": [
            {"sent": send} | {name: median(p[name] for p in pair.pushes) for name in pair.pushes[0]}
            for send, pair in pairs.items()
        ],
        "mismatch_kl_after_updates": [
            {"sent": send} | {str(k): pair.mismatch[k - 1] for k in SHOWN if k <= updates}
            for send, pair in pairs.items()
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("demo/tiny-internvl"))
    parser.add_argument("--rate", type=float, default=1e-4, help="learning rate")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--bfloat16", action="store_true", help="round the base and what is sent")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, object_store_memory=300 * 2**20)
    try:
        with tempfile.TemporaryDirectory(prefix="adapter-push-") as folder:
            base = options.model.absolute()
            model = rounded_base(base, Path(folder) / "base") if options.bfloat16 else base
            figures = asyncio.run(compare(model, options.rate, options.updates, options.bfloat16))
    finally:
        ray.shutdown()
    settings = {"rate": options.rate, "updates": options.updates, "bfloat16": options.bfloat16}
    write_figures({"settings": settings, "machine": describe_machine()} | figures, options.json)


if __name__ == "__main__":
    main()
