"""Each published family in the layouts that it may get, against one row a completion."""

from pathlib import Path

import pytest

from learner.config import LearnerConfig
from learner.records import Layout
from tests.families.catalogue import FAMILIES
from tests.families.checkpoints import make_family
from tests.learner.test_packing import run

PX = 250
"""Not a multiple of Qwen2.5-VL's windows, so that some of them are cut."""


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("qwen2_5_vl", "packed"),
        ("qwen2_5_vl", "vision_once"),
        pytest.param("qwen2_vl", "packed", marks=pytest.mark.slow),
        pytest.param("glm4v", "packed", marks=pytest.mark.slow),
        pytest.param("internvl3", "packed", marks=pytest.mark.slow),
        pytest.param("internvl3_5", "packed", marks=pytest.mark.slow),
        pytest.param("qwen3_5", "vision_once", marks=pytest.mark.slow),
    ],
)
def test_layouts_equal_the_unpacked_reference(name: str, layout: Layout, tmp_path: Path) -> None:
    path = make_family(FAMILIES[name], tmp_path / name)
    expected, expected_gradients = run(path, "unpacked", PX, LearnerConfig(gradient_checkpointing=False))
    found, gradients = run(path, layout, PX, LearnerConfig(logprob_chunk_tokens=5))
    assert (found - expected).abs().max() < 1e-5
    assert gradients.keys() == expected_gradients.keys()
    for parameter, gradient in gradients.items():
        scale = max(1.0, float(expected_gradients[parameter].abs().max()))
        assert (gradient - expected_gradients[parameter]).abs().max() < 2e-5 * scale, parameter
