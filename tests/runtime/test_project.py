"""Folders of the project that have moved are found under their old names."""

from pathlib import Path

import pytest

from cluster.config import RunConfig, load_config
from data.config import DataConfig
from evaluation.models import SHIPPED_BASE, resolve_checkpoint
from monitoring.frame_sheets import recorded_request
from runtime import project
from runtime.project import PROJECT_ROOT, moved


def test_the_old_path_of_the_base_is_that_of_the_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PROJECT_ROOT)
    old = PROJECT_ROOT / "models" / "tiny-internvl"
    assert resolve_checkpoint("models/tiny-internvl").path == str(SHIPPED_BASE)
    assert resolve_checkpoint(str(old)).path == str(SHIPPED_BASE)
    assert load_config(None, ["--model.path=models/tiny-internvl"]).model.path == str(SHIPPED_BASE)
    config = tmp_path / "config.json"
    config.write_text(RunConfig().model_dump_json().replace("demo/tiny-internvl", str(old)))
    assert load_config(config).model.path == str(SHIPPED_BASE)


def test_old_paths_of_the_clips_are_their_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = tmp_path / "demo" / "built" / "test" / "a.mp4"
    clip.parent.mkdir(parents=True)
    clip.touch()
    monkeypatch.setattr(project, "PROJECT_ROOT", tmp_path)
    old = tmp_path / "data" / "demo" / "clips" / "test" / "a.mp4"
    data = DataConfig(manifest=old.parent.parent / "manifest.csv")
    assert recorded_request({"path": str(old), "n_frames": 6}, data).path == str(clip)
    assert DataConfig(root=old.parent).root == clip.parent


def test_other_paths_stay(tmp_path: Path) -> None:
    elsewhere = str(tmp_path / "models" / "tiny-internvl")
    for path in (elsewhere, "OpenGVLab/InternVL3-8B", "demo/tiny-internvl"):
        assert moved(path) == path


def test_what_is_still_at_its_old_place_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("models/tiny-internvl", "demo/tiny-internvl"):
        (tmp_path / place).mkdir(parents=True)
    monkeypatch.setattr(project, "PROJECT_ROOT", tmp_path)
    assert moved(str(tmp_path / "models" / "tiny-internvl")) == str(tmp_path / "models" / "tiny-internvl")
