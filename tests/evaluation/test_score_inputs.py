"""Which videos and which model a command of scoring means."""

import os
import re
from pathlib import Path

import pandas as pd
import pytest

from cluster.config import dump_config, load_config
from data.model_view import ModelView, view_of_run, write_view
from data.tables import write_table
from evaluation.inputs import InputError, find_videos
from evaluation.models import SHIPPED_BASE, fingerprint, resolve_checkpoint, scoring_settings
from runtime.errors import ConfigError
from tests.cli.test_command_line import launch

# Which videos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Videos among other files, in sub-folders, under awkward names."""
    folder = tmp_path / "videos"
    for name in (
        "b.mp4",
        "a.MKV",
        "notes.txt",
        "sub folder/ünï 日本.webm",
        "sub folder/deeper/c.mov",
        "x.mp4.txt",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_a_folder_is_walked_by_suffix(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    found = find_videos(["videos/"])
    assert [video_id for video_id, _ in found.videos] == [
        "videos/a.MKV", "videos/b.mp4", "videos/sub folder/ünï 日本.webm", "videos/sub folder/deeper/c.mov",
    ]  # fmt: skip
    assert all(path == str(folder.parent / video_id) for video_id, path in found.videos)
    assert found.ignored == 2


def test_a_video_named_twice_is_scored_once(folder: Path) -> None:
    found = find_videos([str(folder / "b.mp4"), str(folder), f"{folder}/./b.mp4"])
    assert len(found.videos) == 4
    assert found.videos[0] == (str(folder / "b.mp4"), str(folder / "b.mp4"))
    assert found.repeated == 2


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_table_needs_a_path_only(folder: Path, suffix: str) -> None:
    table = pd.DataFrame({"path": ["b.mp4", "sub folder/gone.mp4"], "anything": [1, 2]})
    path = folder / f"table{suffix}"
    write_table(table, path)
    assert find_videos([str(path)]).videos == [
        ("b.mp4", str(folder / "b.mp4")),
        ("sub folder/gone.mp4", str(folder / "sub folder" / "gone.mp4")),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("mos\n3\n", "column 'path' is missing; it has mos"),
        ("path,mos\na.mp4,1\n,2\n", "row 3, path"),
        ("path\n", "no rows"),
    ],
)
def test_a_bad_table_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        find_videos([str(tmp_path / "table.csv")])


def test_the_paths_of_a_table_start_from_the_root_and_stay_in_it(folder: Path) -> None:
    lists = folder / "sub folder"
    table = lists / "table.csv"
    table.write_text("path\nb.mp4\n")
    assert find_videos([str(table)]).videos == [("b.mp4", str(lists / "b.mp4"))]
    assert find_videos([str(table)], folder).videos == [("b.mp4", str(folder / "b.mp4"))]
    (lists / "link").symlink_to(folder)
    for path in ("../b.mp4", "link/b.mp4", str(folder / "b.mp4"), "/etc/hostname", "deeper/../../../x"):
        table.write_text(f"path\ndeeper/c.mov\n{path}\n")
        message = f"{table}: row 3, path: '{path}' leaves the folder {lists}: move the file, or set --root"
        with pytest.raises(InputError, match=re.escape(message)):
            find_videos([str(table)])
    table.write_text(f"video_id,path\nb,{folder}/b.mp4\n")
    assert find_videos([str(table)], folder).videos == [("b", str(folder / "b.mp4"))]
    with pytest.raises(InputError, match="--root .*gone: no such folder"):
        find_videos([str(table)], folder / "gone")


def test_what_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"gone\.mp4: no such file or folder"):
        find_videos([str(tmp_path / "gone.mp4")])
    with pytest.raises(InputError, match="none of its 1 files has the suffix of a video"):
        find_videos([str(tmp_path)])
    code, output, seconds = launch("score", str(tmp_path / "gone.mp4"))
    assert code == 2
    assert "gone.mp4: no such file or folder; give a video, a folder or a manifest" in output
    assert "Traceback" not in output
    assert seconds < 5 * float(os.environ.get("PATIENCE", 1))


# Which model


def run_directory(path: Path, finished: bool, frames: int = 5) -> Path:
    (path / "final").mkdir(parents=True)
    (path / "run.json").write_text("{}")
    (path / "config.json").write_text(dump_config(load_config(None, [f"--data.frames_per_video={frames}"])))
    if finished:
        (path / "final" / "config.json").write_text('{"model_type": "internvl"}')
    return path


def test_the_newest_finished_run_is_the_default_and_the_base_without_one(tmp_path: Path) -> None:
    assert resolve_checkpoint(None, tmp_path).path == str(SHIPPED_BASE)
    for number, name in enumerate(("old", "new")):
        final = run_directory(tmp_path / name, finished=True) / "final" / "config.json"
        os.utime(final, (number, number))
    run_directory(tmp_path / "unfinished", finished=False)
    assert resolve_checkpoint(None, tmp_path).path == str(tmp_path / "new" / "final")


def test_how_a_model_is_shown_videos_travels_with_it(tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run", finished=True)
    before = resolve_checkpoint(str(run))
    assert before.view == view_of_run(load_config(run / "config.json").model_dump())
    assert before.view.frames_per_video == 5
    write_view(run / "final", ModelView(frames_per_video=7))
    for name in (run, run / "final"):
        assert resolve_checkpoint(str(name)).view.frames_per_video == 7
    assert resolve_checkpoint(str(SHIPPED_BASE)).view.max_frame_px == 96
    (run / "final" / "scoring.json").write_text('{"frames_per_video": 0}')
    with pytest.raises(ConfigError, match=r"scoring\.json: frames_per_video: .*; correct it"):
        resolve_checkpoint(str(run))


def test_a_checkpoint_without_a_view_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "internvl"}')
    for checkpoint in (resolve_checkpoint(str(tmp_path)), resolve_checkpoint("OpenGVLab/InternVL3-8B-hf")):
        assert (checkpoint.view.frames_per_video, checkpoint.view.max_frame_px) == (6, 448)
        assert checkpoint.view_source.startswith("defaults")
    chosen = scoring_settings(resolve_checkpoint(str(tmp_path)), frames_per_video=3, decoder=None, seed=2)
    assert (chosen.frames_per_video, chosen.decoder, chosen.seed) == (3, "auto", 2)
    with pytest.raises(ConfigError, match="decoder: "):
        scoring_settings(resolve_checkpoint(str(tmp_path)), decoder="ffmpeg")


@pytest.mark.parametrize("name", ["./gone", "runs/gone", "gone", "a/b/c", "tests/gone"])
def test_a_checkpoint_that_is_not_there(name: str) -> None:
    with pytest.raises(ConfigError, match="neither an existing folder nor a hub name"):
        resolve_checkpoint(name)


def test_a_run_that_is_not_finished_is_no_checkpoint(tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run", finished=False)
    with pytest.raises(ConfigError, match="finish it with `launch.py train --resume --run_dir="):
        resolve_checkpoint(str(run))
    with pytest.raises(ConfigError, match="neither a run"):
        resolve_checkpoint(str(tmp_path))


def test_models_of_the_same_sizes_have_different_fingerprints(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    weights = bytearray(3_000_000)
    (tmp_path / "model.safetensors").write_bytes(weights)
    before = fingerprint(str(tmp_path))
    assert fingerprint(str(tmp_path)) == before
    weights[-1] = 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    assert fingerprint(str(tmp_path)) != before
