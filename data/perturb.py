"""Temporal perturbations: copies of a video with its frames out of order, repeated or blackened.

Pure functions of frames and seed, following VQAThinker's temporal reward: global shuffle, shuffle within
windows of 4, reversal, jitter, duplication and blackened drops. A perturbation always changes the video.
"""

from collections.abc import Callable
from typing import get_args

import numpy as np

from data.records import Perturbation, PerturbationKind
from data.seeds import stable_hash

KINDS: tuple[PerturbationKind, ...] = get_args(PerturbationKind)
WINDOW_FRAMES = 4
MOST_REPEATS = 3
MOST_DROPS = 3


def draw_perturbation(
    seed: int, epoch: int, cohort_index: int, video_id: str, n_frames: int
) -> Perturbation | None:
    """Draw the perturbation of one video in one cohort, uniformly from the kinds that can change `n_frames`
    frames.

    Returns None for a single frame: it has no order, and a black frame would be another video.
    """
    if n_frames < 2:
        return None
    drawn = stable_hash("perturbation", seed, epoch, cohort_index, video_id)
    return Perturbation(KINDS[drawn % len(KINDS)], drawn)


def perturb(frames: np.ndarray, perturbation: Perturbation) -> np.ndarray:
    """Return a perturbed copy of `frames` [T, ...]. The same perturbation gives the same copy.

    Raises ValueError if there are fewer than 2 frames.
    """
    n_frames = len(frames)
    if n_frames < 2:
        raise ValueError(f"cannot perturb {n_frames} frame(s): a temporal perturbation needs at least 2")
    rng = np.random.default_rng(perturbation.seed)
    if perturbation.kind == "drop":
        return _drop(frames, rng)
    order = identity = np.arange(n_frames)
    while np.array_equal(order, identity):  # a draw is the identity with probability 1/2 or less
        order = _ORDERS[perturbation.kind](n_frames, rng)
    return frames[order]


def _drop(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    count = rng.integers(1, min(MOST_DROPS, len(frames) - 1) + 1)
    out = frames.copy()
    out[rng.choice(len(frames), count, replace=False)] = 0
    return out


def _shuffle(n_frames: int, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(n_frames)


def _local_shuffle(n_frames: int, rng: np.random.Generator) -> np.ndarray:
    windows = np.split(np.arange(n_frames), range(WINDOW_FRAMES, n_frames, WINDOW_FRAMES))
    return np.concatenate([rng.permutation(window) for window in windows])


def _reverse(n_frames: int, rng: np.random.Generator) -> np.ndarray:
    return np.arange(n_frames)[::-1]


def _jitter(n_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Return an order in which each frame is replaced by itself or a neighbour."""
    return np.clip(np.arange(n_frames) + rng.integers(-1, 2, n_frames), 0, n_frames - 1)


def _duplicate(n_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Return an order in which one frame replaces the 1 to 3 frames after it."""
    repeats = int(rng.integers(1, min(MOST_REPEATS, n_frames - 1) + 1))
    first = int(rng.integers(0, n_frames - repeats))
    order = np.arange(n_frames)
    order[first + 1 : first + 1 + repeats] = first
    return order


_ORDERS: dict[PerturbationKind, Callable[[int, np.random.Generator], np.ndarray]] = {
    "shuffle": _shuffle,
    "local_shuffle": _local_shuffle,
    "reverse": _reverse,
    "jitter": _jitter,
    "duplicate": _duplicate,
}
