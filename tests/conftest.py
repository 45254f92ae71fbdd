"""What several tests need: a Ray of their own, small real videos, a random tiny model."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from tests.checkpoints import make_checkpoint

ROOT = Path(__file__).resolve().parent.parent

# A slow machine fails no property.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A Ray for the whole test session, with more CPUs than the machine has: tests take turns anyway."""
    import ray

    ray.init(
        num_cpus=8,
        object_store_memory=300 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def internvl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random tiny InternVL for frames of 56 px."""
    return make_checkpoint("internvl", tmp_path_factory.mktemp("models") / "internvl")


def moving_frames(n_frames: int, px: int = 56, seed: int = 0) -> np.ndarray:
    """uint8 [n_frames, px, px, 3]: a smooth random picture that moves, every frame another."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:px, :px] / px * 2 * np.pi
    wave, phase = rng.uniform(1, 3, (3, 2)), rng.uniform(0, 6, 3)
    frames = [
        np.stack([np.sin(w[0] * x + w[1] * y + p + 0.4 * t) for w, p in zip(wave, phase, strict=True)], -1)
        for t in range(n_frames)
    ]
    return ((np.stack(frames) * 0.5 + 0.5) * 255).astype(np.uint8)


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six real video files of 8 frames at 56 px."""
    from data.lossless import write_lossless

    folder = tmp_path_factory.mktemp("videos")
    paths = [folder / f"video-{number}.mp4" for number in range(6)]
    for number, path in enumerate(paths):
        write_lossless(path, moving_frames(8, seed=number))
    return paths
