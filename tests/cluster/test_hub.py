"""A hub name is one commit on every machine, with a hub that the test moves on."""

import fnmatch
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants
from peft import LoraConfig

from cluster.config import load_config
from cluster.preflight import check_base_model, pin_model, read_job
from cluster.run_actors import RunActors
from data.hub import commit_of, downloaded, hub_name_of, is_hub_name, model_folder
from learner.lora import ADAPTER, save_adapter
from monitoring.run_dir import RunDirectory
from rollout.placement import Placement
from runtime.errors import ConfigError
from tests.fakes import job

NAME, FIRST, SECOND = "owner/some-model", "a" * 40, "b" * 40


class FakeHub:
    """Its main branch is at `main`; downloads go to `home` unless they name another cache."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.main = FIRST
        self.asked: list[str | None] = []

    def snapshot_download(
        self,
        name: str,
        *,
        revision: str | None,
        ignore_patterns: list[str],
        cache_dir: Path | None = None,
    ) -> str:
        self.asked.append(revision)
        if name != NAME or revision not in (None, "main", FIRST, SECOND):
            raise OSError(f"404: no {name} at {revision}")
        commit = self.main if revision in (None, "main") else revision
        folder = (cache_dir or self.home) / "models--owner--some-model" / "snapshots" / commit
        folder.mkdir(parents=True, exist_ok=True)
        for file in ("config.json", "model.safetensors", "pytorch_model.bin"):
            if not any(fnmatch.fnmatch(file, pattern) for pattern in ignore_patterns):
                (folder / file).write_text(commit)
        return str(folder)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    return fake


def test_a_machine_with_a_cache_of_its_own_gets_the_commit_that_the_run_has(hub: FakeHub) -> None:
    """Although the main branch has moved on since."""
    passed_on = model_folder(NAME)
    hub.main = SECOND
    shutil.rmtree(hub.home)  # the other machine has nothing
    assert downloaded(passed_on) == passed_on
    assert (Path(passed_on) / "model.safetensors").read_text() == FIRST
    assert not (Path(passed_on) / "pytorch_model.bin").exists()
    assert hub.asked == [None, FIRST]


def test_folders_are_left_as_they_are(hub: FakeHub, tmp_path: Path) -> None:
    for path in (str(tmp_path), "demo/tiny-internvl", "./owner/name", "/none/there"):
        assert not is_hub_name(path)
        assert model_folder(path) == downloaded(path) == path
        assert commit_of(path) is hub_name_of(path) is None
    assert hub.asked == []


def test_a_run_records_its_commit_and_resumes_from_it(hub: FakeHub, tmp_path: Path) -> None:
    config = pin_model(load_config(None, [f"--model.path={NAME}", "--model.revision=main"]))
    assert (config.model.path, config.model.revision) == (NAME, FIRST)
    run = RunDirectory(tmp_path / "run")
    run.create("{}", "", model_hash=NAME, model_revision=config.model.revision)
    hub.main = SECOND
    assert pin_model(config).model.revision == FIRST
    check_base_model(run, NAME, FIRST)
    with pytest.raises(ConfigError, match=f"was started from commit {FIRST} of {NAME}, not from main"):
        check_base_model(run, NAME, "main")
    older = RunDirectory(tmp_path / "older")
    older.create("{}", "", model_hash=NAME)
    check_base_model(older, NAME, SECOND)


def test_what_cannot_be_downloaded_is_an_error_before_actors_start(hub: FakeHub) -> None:
    with pytest.raises(
        ConfigError, match="owner/other at v2 cannot be downloaded from the hub: 404.*HF_TOKEN"
    ):
        pin_model(load_config(None, ["--model.path=owner/other", "--model.revision=v2"]))


def test_a_revision_of_a_folder_is_refused(internvl: Path, tmp_path: Path) -> None:
    overrides = [f"--model.path={internvl}", "--model.revision=main", f"--data.manifest={tmp_path}/m.csv"]
    with pytest.raises(ConfigError, match="model.revision is 'main', but model.path is a folder"):
        read_job(load_config(None, overrides))


def test_actors_get_the_path_of_the_commit_and_may_download_it(hub: FakeHub) -> None:
    config = load_config(None, [f"--model.path={NAME}", f"--model.revision={FIRST}"])
    actors = RunActors(replace(job(), config=config), lambda *_: None, lambda *_: None)
    folder = actors._model_path
    assert (commit_of(folder), hub_name_of(folder)) == (FIRST, NAME)
    assert actors.learner._spec.model_path == folder
    assert actors.fleet._worker_arguments[1] == folder
    placement: Any = Placement("rollout-0", None, config.rollout)  # type: ignore[arg-type]
    for path, offline in ((folder, False), (str(Path(folder).parent), True)):
        variables = placement.actor_options(path, {})["runtime_env"]["env_vars"]
        assert ("HF_HUB_OFFLINE" in variables) == offline


def test_a_commit_that_is_cached_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the hub's own client, which must not be able to reach anything."""
    folder = tmp_path / "models--owner--some-model" / "snapshots" / FIRST
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    refs = folder.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text(FIRST)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert model_folder(NAME) == downloaded(str(folder)) == str(folder)


@pytest.mark.parametrize("from_hub", [True, False])
def test_an_exported_adapter_names_the_model_that_it_is_of(tmp_path: Path, from_hub: bool) -> None:
    """By hub name and commit, and not by the path of a cache."""
    cached = tmp_path / "models--owner--some-model" / "snapshots" / FIRST
    base = str(cached if from_hub else tmp_path)
    model = SimpleNamespace(name_or_path=base, peft_config={ADAPTER: LoraConfig(r=2)})
    save_adapter(model, {}, tmp_path / "adapter")
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    named = (written["base_model_name_or_path"], written["revision"])
    assert named == ((NAME, FIRST) if from_hub else (base, None))
