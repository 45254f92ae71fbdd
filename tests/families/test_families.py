"""Published families in their published configuration: engine and learner read the same prompt and compute
the same policy, before and after an update, in the layout that each is meant to get."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from data.records import Group
from rollout.environment import engine_environment
from tests.conftest import moving_frames
from tests.families import sides
from tests.families.catalogue import FAMILIES
from tests.families.checkpoints import make_family

pytestmark = [pytest.mark.engine, pytest.mark.timeout(420)]

N_FRAMES = 3
LARGEST_PX = 448
SIZES = [(448, 252), (252, 448), (40, 30)]
"""Width and height: 16:9, 9:16, and a frame below the smallest that Qwen's processors let pass."""


@dataclass(frozen=True)
class Expected:
    """`frame_tokens` are the placeholders of one frame in each of SIZES, `tolerance` is that of log-probs.

    With an engine in bfloat16, rounding moves log-probs as far as other frames do. Then the test shows that
    prompts agree and weights arrive, and only roughly that log-probs do.
    """

    layout: str
    frame_tokens: tuple[int, int, int]
    obstacle: str | None = None
    tolerance: float = 1e-4
    float32: bool = True


LINEAR = "some text layers have linear attention, whose state would pass from one answer to the next"
EXPECTED = {
    "internvl3": Expected("packed", (256, 256, 256)),
    "internvl3_5": Expected("packed", (256, 256, 256)),
    "qwen2_vl": Expected("packed", (144, 144, 6)),
    "qwen2_5_vl": Expected("packed", (144, 144, 6)),
    "qwen3_vl": Expected("packed", (112, 112, 70)),
    # vLLM's kernels of linear attention take bfloat16 alone on the CPU.
    "qwen3_5": Expected("vision_once", (112, 112, 70), LINEAR, tolerance=0.5, float32=False),
    "glm4v": Expected("packed", (144, 144, 12)),
}

FAST = ("internvl3", "qwen2_5_vl", "qwen3_vl")


@pytest.fixture(scope="module")
def engine() -> Iterator[ProcessPoolExecutor]:
    with sides.own_process(engine_environment(sides.ROLLOUT, model_is_local=True)) as pool:
        yield pool


@pytest.fixture(scope="module")
def learner() -> Iterator[ProcessPoolExecutor]:
    with sides.own_process({"OMP_NUM_THREADS": "1"}) as pool:
        pool.submit(sides.learner_join, sides.free_port()).result(timeout=120)
        yield pool


def videos() -> list[np.ndarray]:
    """One of each size."""
    return [cropped(moving_frames(N_FRAMES, max(size), seed=i), *size) for i, size in enumerate(SIZES)]


def cropped(frames: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.ascontiguousarray(frames[:, :height, :width])


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in FAST else pytest.mark.slow) for n in EXPECTED]
)
def test_engine_and_learner_compute_the_same_policy(
    name: str, engine: ProcessPoolExecutor, learner: ProcessPoolExecutor, tmp_path: Path
) -> None:
    path, expected, clips = make_family(FAMILIES[name], tmp_path / name), EXPECTED[name], videos()
    starting = engine.submit(sides.engine_start, path, N_FRAMES, LARGEST_PX)
    loaded = learner.submit(sides.learner_load, path).result(timeout=120)
    assert (loaded.layout, loaded.obstacle) == (expected.layout, expected.obstacle)
    assert loaded.tied == FAMILIES[name].tied

    def compare(first_seed: int) -> tuple[float, float, list[Group]]:
        """Largest differences between the two sides, and between these and other frames of the same size."""
        groups = engine.submit(sides.engine_sample, clips, first_seed).result(timeout=120)
        ours = learner.submit(sides.learner_logprobs, groups, clips).result(timeout=120)
        negative = [255 - frames for frames in clips]
        others = learner.submit(sides.learner_logprobs, groups, negative).result(timeout=120)
        theirs = [np.concatenate([c.logprobs for c in g.completions]) for g in groups]
        return largest(ours, theirs), largest(ours, others), groups

    starting.result(timeout=240)
    difference, effect, groups = compare(first_seed=0)
    assert [image_tokens(path, g.prompt_token_ids) for g in groups] == [
        N_FRAMES * n for n in expected.frame_tokens
    ]
    assert difference < expected.tolerance
    if expected.float32:
        assert effect > 100 * expected.tolerance, "agreement that ignores the frames would prove nothing"
    buckets = learner.submit(sides.learner_update, groups[-1:], clips[-1:]).result(timeout=120)
    engine.submit(sides.engine_load, 1, buckets).result(timeout=120)
    after, _, groups = compare(first_seed=100)
    print(f"{name}: {loaded.layout}, prompts of {[len(g.prompt_token_ids) for g in groups]} tokens")
    print(
        f"largest differences: {difference:.1e}, {after:.1e} after an update, {effect:.1e} with other frames"
    )
    assert after < expected.tolerance
    assert {v for g in groups for c in g.completions for v in c.versions} == {1}
    engine.submit(sides.engine_stop).result(timeout=60)


def largest(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))


def image_tokens(path: Path, prompt: list[int]) -> int:
    from transformers import AutoConfig

    from learner.policy import image_token_id

    return prompt.count(image_token_id(AutoConfig.from_pretrained(path)))
