"""From labels and files to a manifest that a run can read, and from videos alone to ladders."""

import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cli.prepare import prepare_ladder
from data.benchmarks.labels import Columns
from data.benchmarks.sets import BENCHMARKS, Benchmark
from data.frames import read_frames
from data.lossless import write_lossless
from data.manifest import read_manifest
from data.prepare.labelled import PrepareError, prepare
from data.prepare.ladders import MANIFEST, make_ladders
from data.prepare.merged import merge
from data.tables import TableError
from runtime.errors import ConfigError
from runtime.killable import Outcome, run_isolated, serve
from tests.cli.test_command_line import launch
from tests.conftest import moving_frames

MINE = Benchmark("mine", "", "test", (0, 100))


def misbehave(job: Any) -> Any:
    """A job for tests: what a decoder may do."""
    match job:
        case "crash":
            os.abort()
        case "hang":
            time.sleep(600)
        case "noise":
            os.write(1, b"a library says hello\n")
        case "fail":
            raise ValueError("not a video")
    return [job, os.getpid()]


def labels_of(folder: Path, scores: dict[str, float]) -> Path:
    path = folder / "labels.json"
    path.write_text(
        json.dumps(
            {
                "annotations": [
                    {"image_id": k, "ann_type": "score", "score": str(v)} for k, v in scores.items()
                ]
            }
        )
    )
    return path


@pytest.fixture
def library(tmp_path: Path, videos: list[Path]) -> Path:
    """A folder of three videos, a broken one, an empty one and a text."""
    folder = tmp_path / "videos"
    for source, name in zip(videos, ("a.mp4", "sub folder/b.mp4", "sub folder/ü.mp4"), strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(source, folder / name)
    (folder / "broken.mp4").write_bytes(videos[0].read_bytes()[:300])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("no video")
    return folder


GOOD = {"a.mp4": 0.0, "b.mp4": 62.5, "sub folder/ü.mp4": 100.0}
BAD = {"broken.mp4": 1.0, "empty.mp4": 2.0, "gone.mp4": 3.0, "text.mp4": 4.0}


def test_jobs_that_crash_hang_or_fail_cost_themselves_alone() -> None:
    jobs = ["one", "crash", "noise", "hang", "fail", "two"]
    done: list[int] = []
    outcomes = run_isolated("tests.data.test_prepare", jobs, 2, 5.0, done.append)
    assert [outcome.failure for outcome in outcomes] == [
        "",
        "the process that read it crashed",
        "",
        "not done within 5 s",
        "not a video",
        "",
    ]
    assert [o.result[0] for o in outcomes if not o.failure] == ["one", "noise", "two"]
    assert outcomes[3] == Outcome(failure="not done within 5 s")
    assert done == [1, 2, 3, 4, 5, 6]
    for process in {o.result[1] for o in outcomes if not o.failure}:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_a_program_that_does_not_serve_is_named() -> None:
    with pytest.raises(RuntimeError, match="`python -m data.nowhere` ends before its first job"):
        run_isolated("data.nowhere", [1], 1, 5.0)
    assert run_isolated("data.nowhere", [], 1, 5.0) == []


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_keeps_the_label_and_maps_it(library: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"manifest{suffix}"
    seen: list[tuple[int, int]] = []
    prepared = prepare(
        MINE, labels_of(tmp_path, GOOD), library, out, progress=lambda done, n: seen.append((done, n))
    )
    assert (prepared.rows, prepared.problems, prepared.problems_file) == (3, {}, None)
    assert (prepared.base, prepared.span) == (tmp_path, (0.0, 100.0))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    rows = read_manifest(out)
    assert [v.mos for v in rows] == [1.0, 3.5, 5.0]
    assert [v.original_mos for v in rows] == [0.0, 62.5, 100.0]
    assert {(v.scale_low, v.scale_high, v.split, v.label_set) for v in rows} == {(0.0, 100.0, "test", "mine")}
    assert [Path(v.path).relative_to(library).as_posix() for v in rows] == [
        "a.mp4",
        "sub folder/b.mp4",
        "sub folder/ü.mp4",
    ]


def test_what_is_missing_or_does_not_open_is_left_out_and_listed(library: Path, tmp_path: Path) -> None:
    labels, out = labels_of(tmp_path, GOOD | BAD), tmp_path / "manifest.csv"
    opened = prepare(MINE, labels, library, out)
    assert opened.rows == 3
    assert set(opened.problems) == set(BAD)
    assert opened.problems["gone.mp4"] == "is not there"
    assert all(opened.problems[v].startswith("does not open: ") for v in set(BAD) - {"gone.mp4"})
    assert opened.problems_file == tmp_path / "manifest.problems.csv"
    listed = pd.read_csv(opened.problems_file)
    assert dict(zip(listed["video"], listed["reason"], strict=True)) == opened.problems

    found = prepare(MINE, labels, library, out, check="exists")
    assert (found.rows, set(found.problems)) == (6, {"gone.mp4"})
    assert len(read_manifest(out)) == 6

    clean = prepare(MINE, labels_of(tmp_path, GOOD), library, out)
    assert clean.problems_file is None
    assert not (tmp_path / "manifest.problems.csv").exists(), "an old list would mislead"


def test_a_name_that_is_not_there_is_answered_with_the_nearest(library: Path, tmp_path: Path) -> None:
    """Of the files that no other label names: the list then shows how the names differ."""
    labels = labels_of(tmp_path, {"a.mp4": 1.0, "c.mp4": 2.0, "sub_folder/b.mp4": 3.0, "Ü": 4.0})
    prepared = prepare(MINE, labels, library, tmp_path / "manifest.csv", check="exists")
    assert prepared.problems == {
        "c.mp4": "is not there",
        "sub_folder/b.mp4": "is not there; the nearest name is sub folder/b.mp4",
        "Ü": "is not there; the nearest name is sub folder/ü.mp4",
    }


def test_nothing_is_written_when_nothing_is_left(library: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "manifest.parquet"
    with pytest.raises(PrepareError, match=r"none of its 4 videos can be used[^$]*manifest.problems.csv"):
        prepare(MINE, labels_of(tmp_path, BAD), library, out)
    assert not out.exists()
    assert len(pd.read_csv(tmp_path / "out" / "manifest.problems.csv")) == 4


def test_two_labels_of_one_file_are_one_too_many(library: Path, tmp_path: Path) -> None:
    prepared = prepare(MINE, labels_of(tmp_path, GOOD | {"a": 9.0}), library, tmp_path / "m.csv")
    assert prepared.rows == 3
    assert prepared.problems == {"a": "is a.mp4, which already is 'a.mp4'"}


def test_videos_elsewhere_are_the_root_of_the_paths(library: Path, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere" / "manifest.csv"
    prepared = prepare(MINE, labels_of(tmp_path, GOOD), library, out, check="exists")
    assert prepared.base == library
    assert next(v.path for v in read_manifest(out, root=prepared.base)) == str(library / "a.mp4")


def test_a_scale_of_ones_own_also_falling(library: Path, tmp_path: Path) -> None:
    out = tmp_path / "manifest.csv"
    prepare(MINE, labels_of(tmp_path, GOOD), library, out, scale=(100, 0), check="exists", split="train")
    rows = read_manifest(out)
    assert [v.mos for v in rows] == [5.0, 2.5, 1.0]
    assert (rows[0].scale_low, rows[0].scale_high, rows[0].split) == (100.0, 0.0, "train")


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ((1, 5), r"2 of 3 labels are outside the scale 1 to 5 \(.*\): give .* --scale|3 of 3"),
        ((0, 99), "1 of 3 labels are outside the scale 0 to 99 .*100 of 'sub folder/ü.mp4'"),
        ((7, 7), "has no range: give two different labels with --scale"),
    ],
)
def test_labels_off_the_scale_are_refused(
    library: Path, tmp_path: Path, scale: tuple[float, float], message: str
) -> None:
    with pytest.raises(PrepareError, match=message):
        prepare(MINE, labels_of(tmp_path, GOOD), library, tmp_path / "m.csv", scale=scale, check="exists")


def test_a_table_needs_a_scale_unless_it_is_an_order(library: Path, tmp_path: Path) -> None:
    path = tmp_path / "order.csv"
    path.write_text("video,place,part\na.mp4,3,train\nb.mp4,1,test\n")
    table = Benchmark("order", "", "train", None, columns=Columns(("video",), ("place",), split="part"))
    with pytest.raises(PrepareError, match="its labels run from 1 to 3; give .* --scale"):
        prepare(table, path, library, tmp_path / "m.csv")
    prepare(table, path, library, tmp_path / "m.csv", rank_only=True, check="exists")
    rows = read_manifest(tmp_path / "m.csv")
    assert [(v.mos, v.rank_only, v.split) for v in rows] == [(5.0, True, "train"), (1.0, True, "test")]


def test_contents_that_repeat_are_found_in_names(tmp_path: Path, videos: list[Path]) -> None:
    names = ["HEVC_01_960x540_1.mp4", "AV1_01_960x540_1.mp4", "VP9_20_3840x2160_3.mp4"]
    for name in names:
        os.link(videos[0], tmp_path / name)
    out = tmp_path / "manifest.csv"
    prepare(BENCHMARKS["waterloo-ivc-4k"], labels_of(tmp_path, dict.fromkeys(names, 5.0)), tmp_path, out)
    assert [v.source for v in read_manifest(out)] == ["01", "01", "20"]


def test_prepare_command(library: Path, tmp_path: Path) -> None:
    labels = labels_of(tmp_path, {"a.mp4": 1.5, "b": 4.5, "text.mp4": 3})
    out = tmp_path / "else" / "manifest.parquet"
    files = (f"--labels={labels}", f"--videos={library}", f"--out={out}")
    code, output, _ = launch("prepare", "youtube-ugc", *files)
    assert code == 0, output
    assert f"2 videos in {out}" in output
    assert "labels: 1.5 to 4.5, on a scale of 1 (MOS 1) to 5 (MOS 5)" in output
    assert f"--data.root={library}" in output
    assert "1 left out" in output
    assert "text.mp4: does not open" in output
    assert {v.label_set for v in read_manifest(out, library)} == {"youtube-ugc"}
    code, output, _ = launch("prepare", "youtube-ugc", *files, "--scale", "2", "3")
    assert code == 2
    assert "2 of 3 labels are outside the scale 2 to 3" in output
    assert "Traceback" not in output


def test_prepare_table_command(library: Path, tmp_path: Path) -> None:
    table = tmp_path / "own.csv"
    table.write_text("clip,quality,content\na.mp4,20,x\nb,60,y\n")
    out = tmp_path / "manifest.csv"
    columns = ("--path-column=clip", "--mos-column=quality", "--source-column=content")
    files = (f"--labels={table}", f"--videos={library}", f"--out={out}")
    code, output, _ = launch(
        "prepare", "table", *files, *columns, "--scale", "0", "100", "--label-set=lab", "--check=exists"
    )
    assert code == 0, output
    assert [(v.mos, v.label_set, v.source) for v in read_manifest(out)] == [
        (1.8, "lab", "x"),
        (3.4, "lab", "y"),
    ]


def ladder_source(path: Path, n_frames: int = 30, still: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = moving_frames(n_frames, 97)
    write_lossless(path, np.repeat(frames[:1], n_frames, axis=0) if still else frames)


def clip_times(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*.mp4") if p.is_file()}


def kinds_of(rows: Iterable[Any]) -> set[str]:
    return {v.label_set for v in rows}


def test_ladders(tmp_path: Path) -> None:
    folder, out = tmp_path / "mine", tmp_path / "mine" / "ladders"
    ladder_source(folder / "moving.mp4")
    ladder_source(folder / "sub" / "still.mp4", still=True)
    (folder / "broken.mp4").write_text("no video")
    (folder / "notes.txt").write_text("no video, and does not say so")
    options: dict[str, Any] = {
        "kinds": ["blur", "freeze"],
        "rungs": 3,
        "seconds": 0.8,
        "max_px": 64,
        "processes": 1,
    }
    made = make_ladders(folder, out, **options)
    rows = read_manifest(out / MANIFEST)
    assert kinds_of(rows) == {
        "ladder/moving.mp4/blur",
        "ladder/moving.mp4/freeze",
        "ladder/sub/still.mp4/blur",
    }
    assert (made.sets, made.clips) == (3, 9)
    reasons = dict(made.problems)
    assert "not a readable video" in reasons["broken.mp4"]
    assert reasons["sub/still.mp4"] == "shows no difference between any two rungs of freeze"
    assert all(v.rank_only and v.split == "train" for v in rows)
    blur = [v for v in rows if v.label_set == "ladder/moving.mp4/blur"]
    assert [(v.mos, v.strength, v.source) for v in blur] == [
        (5.0, 0.0, "moving.mp4"),
        (3.0, 0.5, "moving.mp4"),
        (1.0, 1.0, "moving.mp4"),
    ]
    clips = [read_frames(v.path, 20) for v in blur]
    assert clips[0].shape == (20, 64, 64, 3)
    sharpness = [float(np.abs(np.diff(clip.astype(float), axis=2)).mean()) for clip in clips]
    assert sharpness[0] > sharpness[1] > sharpness[2]

    before = clip_times(out)
    (out / "moving.mp4" / "blur-1.mp4").unlink()
    again = make_ladders(folder, out, **options)
    assert (again.sets, again.clips) == (made.sets, made.clips)
    after = clip_times(out)
    assert after.keys() == before.keys()
    changed = {name for name in after if after[name] != before[name]}
    assert {Path(name).parent.as_posix() for name in changed} == {"moving.mp4"}, "only what was incomplete"

    make_ladders(folder, out, **options | {"kinds": ["noise"]})
    assert kinds_of(read_manifest(out / MANIFEST)) == {
        "ladder/moving.mp4/noise",
        "ladder/sub/still.mp4/noise",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ["wobble"]}, r"unknown kind of distortion \['wobble'\]: choose from h264"),
        ({"rungs": 1}, "--rungs 2 or more"),
        ({"seconds": 0}, "--seconds above 0"),
        ({}, "no ladder could be made from its 1 videos"),
    ],
)
def test_ladders_that_cannot_be(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(PrepareError, match=message):
        make_ladders(tmp_path, tmp_path / "out", **options)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(TableError, match="no file in it has a video's suffix"):
        make_ladders(empty, tmp_path / "out")


def test_ladder_command(tmp_path: Path) -> None:
    ladder_source(tmp_path / "videos" / "clip.mp4")
    code, output, _ = launch(
        "prepare", "ladder", f"{tmp_path / 'videos'}", f"--out={tmp_path / 'out'}",
        "--kind=noise", "--rungs=2", "--seconds=0.4",
    )  # fmt: skip
    assert code == 0, output
    assert f"2 clips in 1 ladders: {tmp_path / 'out' / 'manifest.csv'}" in output


def test_ladders_without_opencv_name_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)  # as if it were not installed
    for module in ("data.distortions", "data.lossless", "data.prepare.ladder_clips", "data.prepare.ladders"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(ConfigError, match="needs OpenCV, which the extra `demo` installs: run `make setup`"):
        prepare_ladder(tmp_path, tmp_path / "out")


def test_manifests_are_merged(tmp_path: Path, videos: list[Path]) -> None:
    for name in ("one/videos/a.mp4", "two/a.mp4", "two/b.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(videos[0], tmp_path / name)
    first = tmp_path / "one" / "konvid.parquet"
    prepare(MINE, labels_of(tmp_path, {"a.mp4": 25.0}), tmp_path / "one", first)
    second = tmp_path / "two" / "manifest.csv"
    second.write_text("path,mos,split,label_set,rank_only\na.mp4,5,train,ladder/x,true\nb.mp4,2,train,,\n")
    out = tmp_path / "both.parquet"
    code, output, _ = launch("prepare", "merge", str(first), str(second), f"--out={out}")
    assert code == 0, output
    assert f"3 videos in 3 label sets: {out}" in output
    before = [*read_manifest(first), *read_manifest(second)]
    after = read_manifest(out)
    assert [v.label_set for v in after] == ["mine", "ladder/x", "two"]
    for old, new in zip(before, after, strict=True):
        assert replace(new, label_set=old.label_set) == old


def test_two_manifests_of_one_name_are_not_one_label_set(tmp_path: Path, videos: list[Path]) -> None:
    manifests = [tmp_path / folder / "test.csv" for folder in "xy"]
    for manifest in manifests:
        manifest.parent.mkdir()
        os.link(videos[0], manifest.parent / "a.mp4")
        manifest.write_text(f"video_id,path,mos\n{manifest.parent.name}/a,a.mp4,3\n")
    with pytest.raises(
        PrepareError, match="would be of one called 'test': rename one .* label_set"
    ) as caught:
        merge(manifests, tmp_path / "out.csv")
    assert all(str(manifest) in str(caught.value) for manifest in manifests)
    manifests[1].write_text("video_id,path,mos,label_set\ny/a,a.mp4,3,test\n")
    assert [video.label_set for video in merge(manifests, tmp_path / "out.csv")] == ["test", "test"]


def test_manifests_that_do_not_go_together(tmp_path: Path, videos: list[Path]) -> None:
    manifest = tmp_path / "a" / "m.csv"
    manifest.parent.mkdir()
    os.link(videos[0], tmp_path / "a" / "a.mp4")
    manifest.write_text("path,mos\na.mp4,3\n")
    with pytest.raises(PrepareError, match="1 video_ids are in more than one row, such as 'a.mp4'"):
        merge([manifest, manifest], tmp_path / "out.csv")
    with pytest.raises(PrepareError, match="is not below .*: give an --out in a folder above all videos"):
        merge([manifest], tmp_path / "b" / "out.csv")
    assert not (tmp_path / "out.csv").exists()


if __name__ == "__main__":
    serve(misbehave)
