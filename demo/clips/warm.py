"""Clips for the warm start of the tiny base: in none of the three splits, made and labelled on the fly."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np

from data.distortions import TRAIN_KINDS, distort
from demo.clips.contents import contents, pristine_clip
from demo.clips.labels import SAMPLED, label, vmaf_scores

_REAL_SHARE = 0.3
_CHUNK = 64


@dataclass(frozen=True, slots=True)
class WarmClips:
    """`frames` uint8 [n, 4, 96, 96, 3] as the model sees them, `kinds` [n], `strengths` and `mos`
    float64 [n]."""

    frames: np.ndarray
    kinds: list[str]
    strengths: np.ndarray
    mos: np.ndarray


def warm_clip(seed: int) -> tuple[np.ndarray, np.ndarray, str, float]:
    """(pristine, distorted, kind, strength) of one clip, whole; uniform over kinds and strengths."""
    rng = np.random.default_rng(seed)
    sources = contents("warm")
    real = [c for c in sources if c.kind != "generated"]
    generated = [c for c in sources if c.kind == "generated"]
    pool = real if rng.random() < _REAL_SHARE else generated
    pristine = pristine_clip(pool[rng.integers(len(pool))], rng)
    kind, strength = TRAIN_KINDS[rng.integers(len(TRAIN_KINDS))], float(rng.random())
    return pristine, distort(pristine, kind, strength, rng), kind, strength


def warm_clips(
    n: int, first_seed: int, workers: int, progress: Callable[[int], None] | None = None
) -> WarmClips:
    """Make `n` clips from seeds first_seed, first_seed + 1, … in `workers` processes.

    `progress` is called with the number of clips done so far.
    """
    starts = range(first_seed, first_seed + n, _CHUNK)
    chunks = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=one_thread) as pool:
        for chunk in pool.map(partial(_warm_chunk, end=first_seed + n), starts):
            chunks.append(chunk)
            if progress is not None:
                progress(sum(len(c.kinds) for c in chunks))
    return WarmClips(
        np.concatenate([c.frames for c in chunks]),
        [kind for c in chunks for kind in c.kinds],
        np.concatenate([c.strengths for c in chunks]),
        np.concatenate([c.mos for c in chunks]),
    )


def one_thread() -> None:
    """Worker processes share the cores: one thread each."""
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _warm_chunk(start: int, end: int) -> WarmClips:
    made = [warm_clip(seed) for seed in range(start, min(start + _CHUNK, end))]
    sampled = list(SAMPLED)
    vmaf = vmaf_scores([m[0][sampled] for m in made], [m[1][sampled] for m in made])
    return WarmClips(
        np.stack([m[1][sampled] for m in made]),
        [m[2] for m in made],
        np.array([m[3] for m in made]),
        np.array([label(m[2], m[3], v)[0] for m, v in zip(made, vmaf, strict=True)]),
    )
