"""What a run would make of a manifest's videos, found out before it."""

from pathlib import Path

import pandas as pd
import pytest

from data.benchmarks.labels import Columns
from data.benchmarks.sets import Benchmark
from data.config import DataConfig
from data.manifest import read_manifest
from data.prepare.checked import check_manifest, examine
from data.prepare.labelled import prepare
from data.tables import TableError
from tests.awkward_files import FILES, X264
from tests.cli.test_command_line import launch
from tests.numbered_pictures import encode

DATA = DataConfig(frames_per_video=6, max_frame_px=56)
GOOD = {"h264.mp4"}
MARKED = {
    "damaged.mp4": "are damaged",
    "fields.mp4": "its fields are shown woven together",
    "one.mp4": "it has 1 frames, of which 6 are taken",
    "pq.mp4": "smpte2084 is not tone-mapped",
}
FAILING = {
    "cenc.mp4": ("encrypted", "it is encrypted"),
    "cut.mkv": ("truncated", "it ends at"),
    "cut.mp4": ("truncated", "of its 40 frames"),
    "empty.mp4": ("empty", "the file is empty"),
    "gone.mp4": ("missing", "No such file"),
    "text.mp4": ("unreadable", "not a readable video"),
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    names = [*GOOD, *MARKED, *FAILING]
    for file in FILES:
        if file.name in names:
            file.make(folder / file.name)
    encode(folder / "one.mp4", X264, 1)
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video")
    lines = [f"{name},{name},3" for name in names] + ["again,h264.mp4,3"]
    (folder / "mixed.csv").write_text("\n".join(["video_id,path,mos", *lines]) + "\n")
    return folder / "mixed.csv"


def test_every_row_is_good_marked_or_failing_with_its_reason(manifest: Path) -> None:
    seen: list[tuple[int, int]] = []
    checked = check_manifest(manifest, DATA, progress=lambda done, n: seen.append((done, n)))
    n_files = len(GOOD) + len(MARKED) + len(FAILING)
    assert seen == [(done, n_files) for done in range(1, n_files + 1)], "each file once"
    assert checked.of("good").keys() == {*GOOD, "again"}
    assert checked.of("marked").keys() == {*MARKED}
    assert checked.of("fails").keys() == {*FAILING}
    for name, reason in MARKED.items():
        assert reason in checked.findings[name].reason
    for name, (kind, reason) in FAILING.items():
        assert checked.findings[name].kind == kind
        assert reason in checked.findings[name].reason
    assert checked.table == manifest.with_name("mixed.check.csv")
    table = pd.read_csv(checked.table, keep_default_na=False).set_index("video_id")
    assert dict(table["verdict"]) == {name: found.verdict for name, found in checked.findings.items()}
    assert table.loc["damaged.mp4", "damaged_frames"] != ""
    assert (table.loc["h264.mp4", "source_size"], table.loc["one.mp4", "frames_in_all"]) == ("96x64", "1")


def test_a_decoder_that_does_not_come_to_an_end_is_a_failure(manifest: Path) -> None:
    path = str(manifest.parent / "h264.mp4")
    finding = examine([path], DATA.model_copy(update={"decode_timeout_s": 1e-4}), processes=1)[path]
    assert (finding.verdict, finding.kind) == ("fails", "not_decoded")
    assert "not done within" in finding.reason


def test_the_command_and_its_exit_status(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.jsonl"
    code, output, _ = launch("prepare", "check", str(manifest), "--frames=6", f"--out={out}")
    assert code == 1, output
    assert f"12 videos: 6 would fail, 4 would be marked; all are in {out}" in output
    assert "cenc.mp4: not a readable video (it is encrypted" in output
    assert len(pd.read_json(out, lines=True)) == 12
    fine = tmp_path / "fine.csv"
    fine.write_text("path,mos\nh264.mp4,3\none.mp4,3\n")
    code, output, _ = launch("prepare", "check", str(fine), f"--root={manifest.parent}", "--workers=1")
    assert code == 0, output
    assert "2 videos: 0 would fail, 1 would be marked" in output
    assert (tmp_path / "fine.check.csv").exists()
    with pytest.raises(TableError, match="a table is a"):
        check_manifest(fine, DATA, out=tmp_path / "found.txt")


def test_a_set_is_prepared_without_what_would_fail(manifest: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("name,mos\n" + "".join(f"{name},3\n" for name in (*GOOD, *MARKED, *FAILING)))
    table = Benchmark("mine", "", "train", (1, 5), columns=Columns(("name",), ("mos",)))
    made = prepare(table, labels, manifest.parent, tmp_path / "m.csv", check="decode")
    kept = {Path(video.path).name for video in read_manifest(tmp_path / "m.csv", made.base)}
    assert kept == {*GOOD, *MARKED}
    assert made.problems.keys() == {*FAILING}
    assert made.marked.keys() == {*MARKED}
