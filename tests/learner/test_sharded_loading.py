"""A model that is sharded as it loads is the plainly loaded one, in bfloat16, on one ZeRO-3 rank."""

import multiprocessing as mp
import socket
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from learner.config import LearnerConfig
from tests.families.catalogue import FAMILIES
from tests.families.checkpoints import make_family

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

KEPT = "language_model.norm"
"""A name that the last model is made to keep in float32."""


def load_all(folder: Path, port: int) -> tuple[dict[str, dict[str, Any]], str]:
    """In a process of its own: by family what differs from plain loading, and why the last is refused."""
    import torch
    from transformers import AutoModelForImageTextToText

    from learner import zero
    from learner.policy import UnsupportedModel

    zero.compute_dtype = lambda device: torch.bfloat16
    zero.join_process_group(zero.Rendezvous("127.0.0.1", port, 0, 1, 60.0), "cpu")
    found: dict[str, dict[str, Any]] = {}
    for family in (*(name for name in FAMILIES if name != "qwen3_vl"), "qwen3_vl"):
        make_family(FAMILIES[family], folder / family)
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
            "tied": sharded.get_output_embeddings().weight is sharded.get_input_embeddings().weight,
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
    assert loaded[0].keys() == FAMILIES.keys()
    for family, found in loaded[0].items():
        assert (family, found["odd"], found["missing"]) == (family, [], [])
        assert "torch.float32" in found["types"]
        assert found["parameters"] == {"torch.bfloat16"}
        # InternVL's configuration asks for tying, and its weights hold two matrices.
        assert found["tied"] == FAMILIES[family].tied
    names = loaded[0]["qwen3_vl"]["names"]
    assert "model.visual.rotary_pos_emb.inv_freq" in names
    assert "model.language_model.rotary_emb.original_inv_freq" in names


def test_parameters_of_two_types_are_refused(loaded: tuple[dict[str, dict[str, Any]], str]) -> None:
    assert f"1 parameters (model.{KEPT}.weight)" in loaded[1]
