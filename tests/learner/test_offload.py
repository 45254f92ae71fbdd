"""Updates with state in host memory equal those without, and checkpoints move between the two.

On the CPU DeepSpeed runs the code of the offload, its gradient buffers, norms and steps, and copies from host
memory to host memory; `tests/gpu/test_offload.py` does so with one rank in bfloat16, there and on a GPU.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from learner.config import LearnerConfig
from learner.zero import Device, reference_config, zero_config
from tests.learner.test_zero3 import CONFIG, batches, largest_difference, plain_updates
from tests.ranks import Batch, Script, run_ranks

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


def learner(offload: str) -> LearnerConfig:
    return LearnerConfig.model_validate(CONFIG | {"lr": 1e-3, "offload": offload})


def with_nan(batch: Batch) -> Batch:
    return Batch(batch.groups, batch.frames, [[float("nan")] * len(row) for row in batch.advantages])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("offload", "ranks"),
    [("optimizer", 2), ("optimizer_and_parameters", 2), ("optimizer_and_parameters", 1)],
)
def test_updates_equal_one_process(internvl: Path, offload: str, ranks: int) -> None:
    """Between two updates a gradient that is not finite is skipped, and leaves nothing behind."""
    data = batches(internvl, 2)
    expected, norms = plain_updates(internvl, data, learner("none"), "adamw")
    base, _ = plain_updates(internvl, [], learner("none"), "adamw")
    found = run_ranks(Script(learner(offload), internvl, [data[0], with_nan(data[1]), data[1]]), ranks)
    assert [m["learner/skipped"] for m in found.metrics] == [0, 1, 0]
    assert [found.metrics[i]["learner/grad_norm"] for i in (0, 2)] == pytest.approx(norms, rel=1e-5)
    assert largest_difference(found.weights, expected) <= 5e-5
    assert largest_difference(found.weights, base) > 5e-4, "something was learned"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("writer", "reader"),
    [
        ("optimizer", "optimizer"),
        ("optimizer_and_parameters", "optimizer_and_parameters"),
        ("optimizer_and_parameters", "none"),
        ("none", "optimizer"),
    ],
)
def test_checkpoints_resume_with_and_without(
    internvl: Path, tmp_path: Path, writer: str, reader: str
) -> None:
    """Bit for bit where the setting stays, and within rounding where it changes."""
    data = batches(internvl, 3)
    whole = run_ranks(Script(learner(writer), internvl, data))
    run_ranks(Script(learner(writer), internvl, data[:2], save_to=tmp_path / "v2"))
    resumed = run_ranks(
        Script(learner(reader), internvl, data[2:], first_version=2, load_from=tmp_path / "v2")
    )
    if writer == reader:
        assert all(np.array_equal(resumed.weights[n], whole.weights[n]) for n in whole.weights)
    assert largest_difference(resumed.weights, whole.weights) <= 5e-5


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_deepspeed_is_told(device: Device) -> None:
    """As its own configuration classes read it."""
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from deepspeed.runtime.zero.offload_config import OffloadDeviceEnum

    def places(settings: dict[str, Any]) -> dict[str, tuple[str, bool]]:
        read = DeepSpeedZeroConfig(**settings["zero_optimization"])
        parts = {"optimizer": read.offload_optimizer, "parameters": read.offload_param}
        return {
            name: (OffloadDeviceEnum(part.device).value, part.pin_memory)
            for name, part in parts.items()
            if part
        }

    host = ("cpu", device == "cuda")
    for offload, trained, frozen in (
        ("none", {}, {}),
        ("optimizer", {"optimizer": host}, {}),
        ("optimizer_and_parameters", {"optimizer": host, "parameters": host}, {"parameters": host}),
    ):
        assert places(zero_config(learner(offload), device)) == trained
        assert places(reference_config(learner(offload), device)) == frozen
    assert zero_config(learner("optimizer"), device)["zero_force_ds_cpu_optimizer"] is False


def test_other_values_are_refused() -> None:
    with pytest.raises(ValidationError, match="offload"):
        learner("nvme")
