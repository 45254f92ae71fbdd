"""Make and label clips for the warm start of the tiny base model. They are in none of the three splits."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np

from data.distortions import TRAIN_KINDS, distort, single_threaded
from demo.clips.contents import contents, pristine_clip
from demo.clips.labels import SAMPLED, label, vmaf_scores

_REAL_SHARE = 0.3
_CHUNK = 64


def warm_clip(seed: int) -> tuple[np.ndarray, np.ndarray, str, float]:
    """Make one clip: (pristine, distorted, kind, strength), with all frames. Kinds and strengths are drawn
    uniformly."""
    rng = np.random.default_rng(seed)
    sources = contents("warm")
    real = [c for c in sources if c.kind != "generated"]
    generated = [c for c in sources if c.kind == "generated"]
    pool = real if rng.random() < _REAL_SHARE else generated
    pristine = pristine_clip(pool[rng.integers(len(pool))], rng)
    kind, strength = TRAIN_KINDS[rng.integers(len(TRAIN_KINDS))], float(rng.random())
    return pristine, distort(pristine, kind, strength, rng), kind, strength


def warm_clips(n: int, first_seed: int, workers: int) -> dict[str, np.ndarray]:
    """Make `n` clips from the seeds first_seed, first_seed + 1, … in `workers` processes.

    Returns:
        `frames` uint8 [n, 4, 96, 96, 3], as the model is shown them, `kinds` str [n] and `mos` float64 [n].
    """
    starts = range(first_seed, first_seed + n, _CHUNK)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=one_thread) as pool:
        chunks = list(pool.map(partial(_warm_chunk, end=first_seed + n), starts))
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def one_thread() -> None:
    """Limit OpenCV and torch to one thread each, because worker processes share the cores."""
    import torch

    single_threaded()
    torch.set_num_threads(1)


def _warm_chunk(start: int, end: int) -> dict[str, np.ndarray]:
    seeds = range(start, min(start + _CHUNK, end))
    pristine, distorted, kinds, strengths = zip(*map(warm_clip, seeds), strict=True)
    seen = [clip[[*SAMPLED]] for clip in distorted]
    vmaf = vmaf_scores([clip[[*SAMPLED]] for clip in pristine], seen)
    labelled = map(label, kinds, strengths, vmaf)
    return {
        "frames": np.stack(seen),
        "kinds": np.array(kinds),
        "mos": np.array([mos for mos, _ in labelled]),
    }
