"""A whole LoRA run whose engines serve adapters, and what it leaves behind."""

import json
import subprocess
from pathlib import Path

import pytest
from safetensors.torch import load_file

from rollout.config import RolloutConfig
from rollout.environment import engine_environment
from tests import adapters
from tests.families.sides import own_process
from tests.runs import BASE, PATIENCE_S, command, lines, make_set, nothing_left

pytestmark = [pytest.mark.slow, pytest.mark.engine, pytest.mark.timeout(900)]


def train(folder: Path, run: Path, *more: str) -> str:
    """Two epochs of two updates each; returns the output."""
    lora = ("--learner.lora.rank=4", "--learner.lr=1e-2")
    arguments = command(folder / "manifest.csv", BASE, run, "--schedule.epochs=2", *lora)
    process = subprocess.Popen(
        [*arguments, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    assert nothing_left(process.pid) == []
    return " ".join(output.split())


def test_a_run_that_sends_adapters(tmp_path: Path) -> None:
    """Stale by at most one version; engine and learner agree to rounding; the adapter it exports is of the
    language model alone, and vLLM serves it as the merged model answers."""
    make_set(tmp_path)
    run = tmp_path / "run"
    output = train(tmp_path, run, "--schedule.max_staleness=1")
    assert "Engines get adapters, and keep the base model" in output
    metrics, groups = lines(run, "metrics"), lines(run, "groups")
    assert [m["update"] for m in metrics] == [0, 1, 2, 3]
    ages = [g["update"] - v for g in groups for vs in g["clean"]["versions"] for v in vs]
    assert set(ages) <= {0, 1}
    assert all(len({*vs}) == 1 for g in groups for vs in g["clean"]["versions"]), "ends as it began"
    assert json.loads((run / "summary.json").read_text())["updates"] == 4

    folder = run / "final" / "adapter"
    names = load_file(folder / "adapter_model.safetensors")
    assert names
    assert all(name.startswith("base_model.model.model.language_model.") for name in names)
    assert answer(BASE, folder) == answer(run / "final", None) != answer(BASE, None)


def answer(model: Path, adapter: Path | None) -> list[int]:
    """What vLLM itself answers, greedily."""
    config = RolloutConfig()
    with own_process(engine_environment(config, model_is_local=True)) as pool:
        return pool.submit(adapters.greedy_answer, model, adapter).result(timeout=PATIENCE_S)


def test_a_run_whose_adapters_no_engine_serves_merges_and_says_so(tmp_path: Path) -> None:
    make_set(tmp_path)
    run = tmp_path / "run"
    output = train(tmp_path, run, "--schedule.updates=1", "--learner.lora.target_modules=[all-linear]")
    assert "Engines get merged weights: learner.lora.target_modules has layers of vision tower" in output
    names = load_file(run / "final" / "adapter" / "adapter_model.safetensors")
    assert any("vision_tower" in name for name in names)
    assert (run / "final" / "model.safetensors.index.json").is_file()
