"""A model that is sharded as it loads is the plainly loaded one, in bfloat16, on one ZeRO-3 rank."""

import multiprocessing as mp
import socket
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from learner.config import LearnerConfig

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "vocab_size": 256,
}
IDS = {
    "image_token_id": 250,
    "video_token_id": 251,
    "vision_start_token_id": 252,
    "vision_end_token_id": 253,
}
QWEN_VISION = {"depth": 1, "num_heads": 2, "intermediate_size": 128, "out_hidden_size": 64}
SIZES: dict[str, dict[str, Any]] = {
    "internvl": {  # the rope of InternVL3-8B
        "vision_config": {
            "hidden_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 128,
            "image_size": [56, 56],
        },
        "text_config": {
            "model_type": "qwen2",
            **TEXT,
            "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e6},
        },
        "image_token_id": 250,
    },
    "internvl-3.5": {
        "vision_config": {
            "hidden_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 128,
            "image_size": [56, 56],
        },
        "text_config": {
            "model_type": "qwen3",
            **TEXT,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        },
        "image_token_id": 250,
    },
    "qwen2_5_vl": {
        "vision_config": {**QWEN_VISION, "hidden_size": 64, "fullatt_block_indexes": [0]},
        "text_config": {
            **TEXT,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]},
        },
        **IDS,
    },
    "qwen3_vl": {
        "vision_config": {**QWEN_VISION, "hidden_size": 64, "deepstack_visual_indexes": [0]},
        "text_config": {
            **TEXT,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
        },
        **IDS,
    },
}
KEPT = "language_model.norm"
"""A name that the last model is made to keep in float32."""


def load_all(folder: Path, port: int) -> tuple[dict[str, dict[str, Any]], str]:
    """In a process of its own: by family what differs from plain loading, and why the last is refused."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    from learner import zero
    from learner.policy import UnsupportedModel

    zero.compute_dtype = lambda device: torch.bfloat16
    zero.join_process_group(zero.Rendezvous("127.0.0.1", port, 0, 1, 60.0), "cpu")
    found: dict[str, dict[str, Any]] = {}
    for family, sizes in SIZES.items():
        config = AutoConfig.for_model(family.removesuffix("-3.5"), **sizes)
        AutoModelForImageTextToText.from_config(config).save_pretrained(folder / family)
        plain = AutoModelForImageTextToText.from_pretrained(folder / family, dtype=torch.bfloat16)
        sharded = zero.load_sharded(str(folder / family), LearnerConfig(ranks=1), "cpu", False)
        buffers, expected = dict(sharded.named_buffers()), dict(plain.named_buffers())
        found[family] = {
            "names": sorted(buffers),
            "types": {str(b.dtype) for b in buffers.values()},
            "odd": [
                name
                for name, buffer in expected.items()
                if buffers[name].dtype != buffer.dtype
                or buffers[name].device != buffer.device
                or not torch.equal(buffers[name], buffer)
            ],
            "missing": sorted(buffers.keys() ^ expected.keys()),
            "parameters": {str(p.ds_tensor.dtype) for p in sharded.parameters()},
        }
    type(plain)._keep_in_fp32_modules_strict = [KEPT]
    refusal = ""
    try:
        zero.load_sharded(str(folder / family), LearnerConfig(ranks=1), "cpu", False)
    except UnsupportedModel as error:
        refusal = str(error)
    zero.leave_process_group()
    return found, refusal


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, dict[str, Any]], str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with ProcessPoolExecutor(1, mp.get_context("spawn")) as process:
        return process.submit(load_all, tmp_path_factory.mktemp("models"), port).result(timeout=240)


def test_buffers_that_constructors_compute_equal_plain_loading(
    loaded: tuple[dict[str, dict[str, Any]], str],
) -> None:
    """Rotary frequencies above all: by default DeepSpeed rounds them to the type of the parameters."""
    for family, found in loaded[0].items():
        assert (family, found["odd"], found["missing"]) == (family, [], [])
        assert "torch.float32" in found["types"]
        assert found["parameters"] == {"torch.bfloat16"}
    names = loaded[0]["qwen3_vl"]["names"]
    assert "model.visual.rotary_pos_emb.inv_freq" in names
    assert "model.language_model.rotary_emb.original_inv_freq" in names


def test_parameters_of_two_types_are_refused(loaded: tuple[dict[str, dict[str, Any]], str]) -> None:
    assert f"1 parameters (model.{KEPT}.weight)" in loaded[1]
