"""Settings that are refused before an actor starts, and what ranks are started with."""

import importlib.util
from pathlib import Path

import pytest

from cluster.config import load_config
from cluster.preflight import check_base_model, read_job
from evaluation.models import fingerprint
from learner.config import LearnerConfig
from learner.rank import ALLOCATOR, rank_environment
from monitoring.run_dir import RunDirectory
from runtime.errors import ConfigError


def test_an_attention_whose_package_is_missing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    manifest = f"--data.manifest={tmp_path / 'none.csv'}"
    with pytest.raises(ConfigError, match="flash-attn is not installed: set it to 'sdpa'"):
        read_job(load_config(None, ["--learner.attention=flash_attention_2", manifest]))
    with pytest.raises(ValueError, match="none.csv"):
        read_job(load_config(None, [manifest]))


def test_ranks_on_gpus_grow_their_segments_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ALLOCATOR, raising=False)
    assert rank_environment(LearnerConfig()) == {}
    gpus = LearnerConfig(gpus_per_rank=1)
    assert rank_environment(gpus) == {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    monkeypatch.setenv(ALLOCATOR, "max_split_size_mb:512")
    assert rank_environment(gpus) == {"PYTORCH_ALLOC_CONF": "max_split_size_mb:512"}


def test_a_run_is_resumed_from_the_base_that_it_was_started_from(tmp_path: Path) -> None:
    model = tmp_path / "base"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"first weights")
    old, new = RunDirectory(tmp_path / "old"), RunDirectory(tmp_path / "new")
    old.create("{}", "")
    new.create("{}", "", model_hash=fingerprint(str(model)))
    check_base_model(new, str(model))
    (model / "model.safetensors").write_bytes(b"other weights")
    check_base_model(old, str(model))  # it recorded none
    with pytest.raises(ConfigError, match="does not hold the weights that .*new was started from"):
        check_base_model(new, str(model))
