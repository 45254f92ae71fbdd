"""New weights while an engine samples: what becomes of the running requests, token by token."""

import asyncio
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from data.records import Group, SamplingRequest, VideoRef, Weights
from data.tensor_bytes import TensorBytes, bucket_of
from rollout.config import RolloutConfig
from rollout.fleet import RolloutFleet
from tests.checkpoints import FRAME_PX, make_checkpoint
from tests.conftest import moving_frames
from tests.plain_torch import completion_logprobs, load

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(400)]

N_FRAMES, TOKENS = 3, 300
TOLERANCE = 1e-4


def rounded(path: Path) -> tuple[Any, Any]:
    """(model, processor) of a checkpoint as a learner on GPUs holds it: bfloat16 weights, here in float32."""
    model, processor = load(path)
    for parameter in model.parameters():  # and not the buffers, which stay float32
        parameter.data = parameter.data.bfloat16().float()
    return model, processor


def weights_of(path: Path) -> dict[str, TensorBytes]:
    """As that learner sends them: half the bytes, which the engine loads into its float32 model."""
    bucket = bucket_of(load(path)[0].bfloat16().state_dict())
    assert {held.dtype for held in bucket.values()} == {"bfloat16"}
    return bucket


async def sampled_across_an_update(
    old: Path, new: Path, mode: Literal["keep", "finish", "abort"]
) -> tuple[Group, Group]:
    """(a group that was running when `new` came, one that was asked for while it was being loaded)."""
    import ray

    config = RolloutConfig(
        replicas=1,
        engine="async",
        in_flight=mode,
        max_completion_tokens=TOKENS,
        max_model_tokens=1024,
        group_timeout_s=120,
        sync_timeout_s=120,
    )
    fleet = RolloutFleet(config, str(old), N_FRAMES, seed=0)
    frames = ray.put(moving_frames(N_FRAMES, FRAME_PX["internvl"]))
    weights = ray.put(weights_of(new))

    async def ask(*seeds: int) -> Group:
        request = SamplingRequest(VideoRef("v", "/v.mp4", N_FRAMES), seeds, 1.0, TOKENS)
        (group,) = await fleet.sample([request], frames, cost_tokens=len(seeds) * TOKENS)
        return group

    try:
        await fleet.start(1)
        await ask(1)
        started = time.monotonic()
        await ask(2, 3, 4, 5)
        alone_s = time.monotonic() - started
        running = asyncio.create_task(ask(6, 7, 8, 9))
        await asyncio.sleep(alone_s / 3)
        loading = asyncio.create_task(fleet.load_weights_everywhere(Weights(1, [weights])))
        await asyncio.sleep(0)
        newcomer = await ask(10, 11)
        (held,) = (await loading).values()
        assert (held.version, held.pause_s > 0) == (1, True)
        return await running, newcomer
    finally:
        await fleet.close()


@pytest.mark.parametrize("mode", ["keep", "finish", "abort"])
def test_every_token_is_of_the_version_it_says(
    local_ray: None, internvl: Path, tmp_path: Path, mode: Literal["keep", "finish", "abort"]
) -> None:
    """Its log-prob is what Hugging Face computes under that version's weights, over the same tokens."""
    new = make_checkpoint("internvl", tmp_path / "new", seed=1)
    running, newcomer = asyncio.run(sampled_across_an_update(internvl, new, mode))
    seen = {v for c in running.completions for v in c.versions}
    assert seen == {"keep": {0, 1}, "finish": {0}, "abort": {1}}[mode]
    for completion in running.completions:
        assert completion.versions == sorted(completion.versions)
    assert {v for c in newcomer.completions for v in c.versions} <= {0, 1}

    frames = moving_frames(N_FRAMES, FRAME_PX["internvl"])
    models = [load(internvl), rounded(new)]
    for group in (running, newcomer):
        for completion in group.completions:
            assert len(completion.versions) == len(completion.token_ids)
            by_version = [
                completion_logprobs(model, processor, group, frames, completion, 1.0).detach().numpy()
                for model, processor in models
            ]
            expected = np.where(np.array(completion.versions) == 1, by_version[1], by_version[0])
            assert np.abs(np.array(completion.logprobs) - expected).max() < TOLERANCE
            assert np.abs(by_version[1] - by_version[0]).max() > 100 * TOLERANCE
