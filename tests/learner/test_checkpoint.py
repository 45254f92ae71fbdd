"""Checkpoints resume bit for bit, load on other numbers of ranks, hold no pickle, and name what is wrong."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from learner.checkpoint import CheckpointError, read_index
from learner.config import LearnerConfig
from tests.checkpoints import make_checkpoint
from tests.learner.test_zero3 import CONFIG, batches, largest_difference
from tests.ranks import Report, Script, run_ranks

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

LEARNER = LearnerConfig.model_validate(CONFIG | {"lr": 1e-3})


@pytest.fixture(scope="module")
def saved(internvl: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """A checkpoint after two updates, and its report; an export beside it."""
    folder = tmp_path_factory.mktemp("run")
    script = Script(
        LEARNER,
        internvl,
        batches(internvl, 2),
        save_to=folder / "v2",
        snapshot_to=folder / "v2-snapshot",
        export_to=folder / "final",
    )
    return folder / "v2", run_ranks(script)


@pytest.mark.slow
def test_resumed_training_is_that_of_an_uninterrupted_run(internvl: Path, saved: tuple[Path, Report]) -> None:
    folder, _ = saved
    four = batches(internvl, 4)
    whole = run_ranks(Script(LEARNER, internvl, four))
    resumed = run_ranks(Script(LEARNER, internvl, four[2:], first_version=2, load_from=folder))
    assert resumed.extra == {"version": 2}
    assert all(np.array_equal(resumed.weights[n], whole.weights[n]) for n in whole.weights)
    for name in ("learner/loss", "learner/grad_norm", "policy/kl_to_base", "learner/lr"):
        assert [m[name] for m in resumed.metrics] == [m[name] for m in whole.metrics[2:]]


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 3])
def test_loads_on_another_number_of_ranks(internvl: Path, saved: tuple[Path, Report], ranks: int) -> None:
    """Weights at once, and the optimizer's state by what the next update does."""
    folder, report = saved
    loaded = run_ranks(Script(LEARNER, internvl, load_from=folder), ranks)
    assert largest_difference(loaded.weights, report.weights) <= 1e-6
    after = batches(internvl, 3)[2:]
    expected = run_ranks(Script(LEARNER, internvl, after, first_version=2, load_from=folder))
    found = run_ranks(Script(LEARNER, internvl, after, first_version=2, load_from=folder), ranks)
    assert largest_difference(found.weights, expected.weights) <= 5e-5
    assert largest_difference(found.weights, report.weights) > 5e-4


def test_holds_no_pickle_and_no_leftovers(saved: tuple[Path, Report]) -> None:
    folder, _ = saved
    assert sorted(p.name for p in folder.iterdir()) == [
        "checkpoint.json",
        "rank-0-of-2.safetensors",
        "rank-1-of-2.safetensors",
    ]
    assert sorted(p.name for p in folder.parent.iterdir()) == ["final", "v2", "v2-snapshot"]


def test_a_snapshot_holds_the_state_at_its_time_whatever_is_computed_before_it_is_written(
    saved: tuple[Path, Report],
) -> None:
    folder, _ = saved
    for file in sorted(folder.iterdir()):
        assert (folder.parent / "v2-snapshot" / file.name).read_bytes() == file.read_bytes()


def test_export_loads_in_transformers_with_the_same_weights(saved: tuple[Path, Report]) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder, report = saved
    exported = AutoModelForImageTextToText.from_pretrained(folder.parent / "final")
    AutoProcessor.from_pretrained(folder.parent / "final")
    weights = {n: p.detach().numpy() for n, p in exported.named_parameters()}
    assert largest_difference(weights, report.weights) == 0


def broken_copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_a_checkpoint_that_is_not_whole_is_refused(saved: tuple[Path, Report], tmp_path: Path) -> None:
    copy = broken_copy(saved[0], tmp_path)
    (copy / "rank-1-of-2.safetensors").unlink()
    with pytest.raises(CheckpointError, match="rank-1-of-2.safetensors is missing; take an older"):
        read_index(copy)
    (copy / "checkpoint.json").write_text("{")
    with pytest.raises(CheckpointError, match="checkpoint.json is not valid JSON"):
        read_index(copy)
    (copy / "checkpoint.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(CheckpointError, match="format 99, this code reads format"):
        read_index(copy)
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        read_index(tmp_path)


def test_a_checkpoint_of_another_model_is_refused(saved: tuple[Path, Report], tmp_path: Path) -> None:
    other = make_checkpoint("qwen3_vl", tmp_path / "other")
    with pytest.raises(RuntimeError, match="CheckpointError: .* are not this model's"):
        run_ranks(Script(LEARNER, other, load_from=saved[0]), ranks=1)
