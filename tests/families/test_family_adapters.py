"""Engines serve the adapters of a family's language model as transformers computes them."""

from pathlib import Path

import numpy as np
import pytest

from data.records import Group
from rollout.adapters import FAMILIES as SERVED
from rollout.config import RolloutConfig
from rollout.environment import engine_environment
from tests import adapters
from tests.adapters import adapted, bucket_of_adapter
from tests.conftest import moving_frames
from tests.families.catalogue import FAMILIES
from tests.families.checkpoints import make_family, published
from tests.families.sides import own_process
from tests.plain_torch import completion_logprobs, load

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]

N_FRAMES, FRAME_PX, TOKENS = 2, 112, 8
CONFIG = RolloutConfig(max_completion_tokens=TOKENS, max_model_tokens=4096)
TOLERANCE = 1e-4
NAMES = [name for name, family in FAMILIES.items() if published(family.hub_name)["model_type"] in SERVED]


def test_every_served_family_is_tested() -> None:
    assert {published(FAMILIES[name].hub_name)["model_type"] for name in NAMES} == SERVED


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_engine_serves_the_adapters_of_a_family(name: str, tmp_path: Path) -> None:
    path = make_family(FAMILIES[name], tmp_path / name)
    base, processor = load(path)
    adapter = adapted(path, 1)
    frames = moving_frames(N_FRAMES, FRAME_PX)

    def difference(group: Group, model: object) -> float:
        rows = [(completion_logprobs(model, processor, group, frames, c, 1.0), c) for c in group.completions]
        return max(float(np.abs(row.detach().numpy() - np.array(c.logprobs)).max()) for row, c in rows)

    with own_process(engine_environment(CONFIG, model_is_local=True)) as pool:
        pool.submit(adapters.engine_start, path, CONFIG, N_FRAMES, 1).result(timeout=240)
        before = pool.submit(adapters.engine_sample, frames, (1, 2), TOKENS).result(timeout=120)
        pool.submit(adapters.engine_load, 1, bucket_of_adapter(adapter)).result(timeout=120)
        after = pool.submit(adapters.engine_sample, frames, (3, 4), TOKENS).result(timeout=120)
        pool.submit(adapters.engine_stop).result(timeout=60)
    print(f"{name}: {difference(before, base):.1e}, {difference(after, adapter):.1e} with the adapter")
    assert difference(before, base) < TOLERANCE
    assert difference(after, adapter) < TOLERANCE
    assert difference(after, base) > 100 * TOLERANCE
