"""Label files as their authors lay them out, and their videos under the names of their downloads."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from data.benchmarks.files import NotFound, VideoFolder
from data.benchmarks.labels import Columns, LabelError, LabelRow, read_labels
from data.benchmarks.sets import BENCHMARKS
from data.prepare.labelled import source_of, to_mos
from data.tables import TableError

LISTS = Path(__file__).resolve().parents[1] / "label_lists"
"""Entries of the published annotation lists: real names, invented scores in the range of the real ones."""
PLAIN = Columns(("path",), ("mos",))


def annotation_list(pairs: dict[str, str]) -> str:
    return json.dumps(
        {"annotations": [{"image_id": k, "ann_type": "score", "score": v} for k, v in pairs.items()]}
    )


def conversation(video: str, score: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "dataset_name": "LSVQ",
        "image": [video],
        "conversations": [{"from": "human", "value": "How good?"}, {"from": "gpt", "value": score}],
    }


@pytest.mark.parametrize(
    ("name", "low", "high", "contents"),
    [
        ("lsvq-test", 8.47, 91.03, 0),
        ("lsvq-1080p", 17.72, 91.42, 0),
        ("konvid-1k", 24.4, 92.8, 0),
        ("live-vqc", 6.22, 94.29, 0),
        ("youtube-ugc", 1.24, 4.68, 0),
        ("live-yt-gaming", 4.53, 95.95, 4),
        ("waterloo-ivc-4k", 0.74, 97.59, 4),
        ("cgvds", 1.71, 6.06, 4),
        ("live-yt-hfr", 10.36, 73.94, 4),
        ("vdpve", 19.89, 84.42, 4),
    ],
)
def test_annotation_lists_of_the_sets(name: str, low: float, high: float, contents: int) -> None:
    """Each is read, its labels are on the set's scale, and where few contents repeat each is a source."""
    labels = read_labels(LISTS / f"{name}.json")
    scores = [row.score for row in labels.rows]
    scale = BENCHMARKS[name].scale_of("list")
    assert labels.layout == "list"
    assert (min(scores), max(scores)) == pytest.approx((low, high), abs=0.01)
    assert scale is not None
    assert scale[0] <= min(scores)
    assert max(scores) <= scale[1]
    sources = Counter(source_of(BENCHMARKS[name], f"videos/{row.path}") for row in labels.rows)
    assert len(sources) == max(contents, 1)
    assert sources.keys() == {""} or min(sources.values()) > 1


def test_every_list_that_is_known_has_its_test() -> None:
    assert {path.stem for path in LISTS.iterdir()} == {*BENCHMARKS} - {"lsvq-train"}


@pytest.mark.parametrize(
    ("name", "labelled", "file"),
    [
        ("konvid-1k", "5706858082.mp4", "5706858082_original_centercrop_960x540_8s.mp4"),
        ("konvid-1k", "5706858082.mp4", "KoNViD_1k_videos/5706858082_cut_centercrop_960x540_8s.mp4"),
        ("konvid-1k", "5706858082", "5706858082_cut_centercrop_960x540_8s.mp4"),
        ("konvid-1k", "5706858082_original_centercrop_960x540_8s.mp4", "5706858082.mp4"),
        ("live-vqc", "A092NEW.mp4", "A092.mp4"),
        ("live-vqc", "A092.mp4", "Video/A092NEW.mp4"),
        ("live-vqc", "A092", "A092NEW.mp4"),
        ("youtube-ugc", "HowTo_720P-37d0", "HowTo_720P-37d0_crf_10_ss_00_t_20.0.mp4"),
        ("youtube-ugc", "HowTo_720P-37d0_crf_10_ss_00_t_20.0.mp4", "HowTo/HowTo_720P-37d0.mkv"),
        ("live-yt-hfr", "1Runner_crf_0_24fps.mp4", "1Runner/1Runner_crf_0_24fps.webm"),
    ],
)
def test_videos_under_the_names_of_their_downloads(
    tmp_path: Path, name: str, labelled: str, file: str
) -> None:
    neighbours = (
        "A0920.mp4",
        "A09.mp4",
        "15706858082.mp4",
        "HowTo_720P-37d.mp4",
        "1Runner_crf_0_240fps.webm",
    )
    for other in (file, *neighbours):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).touch()
    assert VideoFolder(tmp_path).find(labelled, BENCHMARKS[name].ending) == file


def test_konvid_labels_are_the_same_on_either_scale() -> None:
    """The list's labels are the published ones times 20: 1.22 to 4.64 on the scale of 1 to 5."""
    konvid = BENCHMARKS["konvid-1k"]
    of_list, of_table = konvid.scale_of("list"), konvid.scale_of("table")
    assert of_list is not None
    assert of_table is not None
    for published in (1.22, 3.12, 4.64):
        assert to_mos(20 * published, of_list) == pytest.approx(to_mos(published, of_table))


def test_an_annotation_list(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text(annotation_list({"a/1.mp4": "62.400", "2.mp4": "7"}))
    assert read_labels(path).rows == [LabelRow("a/1.mp4", 62.4), LabelRow("2.mp4", 7.0)]


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
@pytest.mark.parametrize("count", [1, 3])
def test_conversations(tmp_path: Path, suffix: str, count: int) -> None:
    items = [conversation(f"{n}.mp4", n + 0.5 if n else "0.5") for n in range(count)]
    path = tmp_path / f"train{suffix}"
    path.write_text(
        "\n".join(json.dumps(i) for i in items) + "\n" if suffix == ".jsonl" else json.dumps(items)
    )
    labels = read_labels(path)
    assert labels.layout == "conversations"
    assert labels.rows == [LabelRow(f"{n}.mp4", n + 0.5) for n in range(count)]


@pytest.mark.parametrize(
    ("name", "header", "rows"),
    [
        ("konvid-1k", "flickr_id,deltaE,MOS", ["0003,1.5,3.1", "12,2.5,4.64"]),
        ("konvid-1k", "flickr_id,mos", ["0003,3.1", "12,4.64"]),
        ("konvid-1k", "file_name,mos", ["0003,3.1", "12,4.64"]),
        ("live-vqc", "File,MOS", ["0003,3.1", "12,4.64"]),
        ("youtube-ugc", "vid,MOS full,MOS chunk00", ["0003,3.1,1", "12,4.64,2"]),
        ("youtube-ugc", "vid,MOSFull", ["0003,3.1", "12,4.64"]),
        ("lsvq-train", "name,mos,is_test", ["0003,3.1,False", "5,2,True", "12,4.64,False"]),
        ("lsvq-test", "name,mos,is_test", ["0003,3.1,True", "5,2,False", "12,4.64,True"]),
        ("lsvq-1080p", "name,mos,is_test", ["0003,3.1,True", "12,4.64,True"]),
    ],
)
def test_csv_as_the_sets_distribute_it(tmp_path: Path, name: str, header: str, rows: list[str]) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    labels = read_labels(path, BENCHMARKS[name].columns)
    assert labels.layout == "table"
    assert labels.rows == [LabelRow("0003", 3.1), LabelRow("12", 4.64)]


def test_live_vqc_as_matlab_saves_it(tmp_path: Path) -> None:
    path = tmp_path / "data.mat"
    names = np.array([["A001.mp4"], ["A002.mp4"]], dtype=object)
    savemat(path, {"video_list": names, "mos": np.array([[80.5], [12.0]]), "note": np.array([[1.0]])})
    rows = read_labels(path, BENCHMARKS["live-vqc"].columns).rows
    assert rows == [LabelRow("A001.mp4", 80.5), LabelRow("A002.mp4", 12.0)]


WRITERS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    ".csv": lambda table, path: table.to_csv(path, index=False),
    ".jsonl": lambda table, path: table.to_json(path, orient="records", lines=True),
    ".json": lambda table, path: table.to_json(path, orient="records"),
    ".parquet": lambda table, path: table.to_parquet(path),
}


@pytest.mark.parametrize("suffix", list(WRITERS))
def test_a_table_of_ones_own(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    table = pd.DataFrame(
        {"clip": ["a", "b"], "dmos": [1.5, 80], "part": ["train", "test"], "of": ["x", None], "flag": [0, 1]}
    )
    WRITERS[suffix](table, path)
    rows = read_labels(path, Columns(("Clip",), ("dmos",), split="part", source="of")).rows
    assert rows == [LabelRow("a", 1.5, "train", "x"), LabelRow("b", 80.0, "test", "")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.json", "{", "is not JSON"),
        ("x.json", "3", "contains neither 'annotations' nor one object a video"),
        ("x.json", '{"annotations": []}', "it has no labels"),
        ("x.json", annotation_list({"a.mp4": "good"}), "label 1: 'good' of 'a.mp4' is not a number"),
        ("x.json", annotation_list({"a.mp4": "nan"}), "label 1: 'nan' of 'a.mp4' is not a number"),
        ("x.json", annotation_list({"": "1"}), "label 1: names no video"),
        ("x.json", '{"annotations": [1, 2]}', "entry 1 of 'annotations' is 1: give an object with image_id"),
        ("x.json", '[{"conversations": 5}]', "'conversations' of entry 1 is 5: give a list of objects"),
        ("x.json", '[{"conversations": []}, {"conversations": ["a"]}]', 'of entry 2 is ["a"]: give a list'),
        ("x.jsonl", '{"a": 1}\n{"a"', "line 2 is not JSON"),
        ("x.jsonl", json.dumps(conversation("a.mp4", None)) + "\n" + "{}", "has no column 'path'"),
        ("x.csv", "path,mos\na.mp4,1\nb.mp4,2\na.mp4,3\n", "label 3: 'a.mp4' is already label 1"),
        ("x.csv", "file,mos\na.mp4,1\n", "has no column 'path'; it has file, mos. Name it: prepare table"),
        ("x.xlsx", "", "not '.xlsx'; save the labels as CSV"),
        ("x.mat", "nonsense " * 20, "cannot be read as MATLAB"),
    ],
)
def test_bad_labels_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(LabelError) as caught:
        read_labels(path, PLAIN)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_json_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(annotation_list({"Gr\xfc\xdfe.mp4": "1"}).encode().replace(b"\\u00fc", b"\xfc"))
    with pytest.raises(LabelError, match=r"x.json: is not UTF-8 \(byte \d+\): save it as UTF-8"):
        read_labels(path)


def test_no_file_and_no_table() -> None:
    with pytest.raises(LabelError, match="no such file; give .* --labels"):
        read_labels(Path("none.json"))


def test_a_set_without_a_table_says_how_to_read_one(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("path,mos\na,1\n")
    with pytest.raises(LabelError, match="prepare table"):
        read_labels(tmp_path / "x.csv", BENCHMARKS["vdpve"].columns)


FILES = """
a.mp4 Clip_t_20.0.mkv one/b.mp4 one/c.mkv one/e.mp4 two/c.mp4 two/d_long_form.mp4 two/e.mp4 x/one/f.mp4
"""


@pytest.fixture
def folder(tmp_path: Path) -> VideoFolder:
    root = tmp_path / "videos"
    for name in FILES.split():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    (tmp_path / "secret.mp4").write_bytes(b"")
    (root / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    (root / "inner.mp4").symlink_to(root / "a.mp4")
    return VideoFolder(root)


@pytest.mark.parametrize(
    ("label", "file"),
    [
        ("a.mp4", "a.mp4"),
        ("one/b.mp4", "one/b.mp4"),
        ("b.mp4", "one/b.mp4"),
        ("b", "one/b.mp4"),
        ("c.mp4", "two/c.mp4"),
        ("one/f", "x/one/f.mp4"),
        ("d", "two/d_long_form.mp4"),
        ("d.mp4", "two/d_long_form.mp4"),
        ("two/e.mp4", "two/e.mp4"),
        ("Clip_t_20.0", "Clip_t_20.0.mkv"),
        ("Clip_t_20.0.mkv", "Clip_t_20.0.mkv"),
        ("inner.mp4", "inner.mp4"),
    ],
)
def test_finds_the_file_that_a_label_names(folder: VideoFolder, label: str, file: str) -> None:
    assert folder.find(label, "_long_form") == file
    assert folder.find(folder.location(file)) == file


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("none.mp4", "is not there"),
        ("c", "could be any of 2 files: one/c.mkv, two/c.mp4"),
        ("e.mp4", "could be any of 2 files"),
        ("two/b.mp4", "is not there"),
        ("../secret.mp4", "leaves the folder"),
        ("one/../a.mp4", "leaves the folder"),
        ("/etc/passwd", "leaves the folder"),
        ("link.mp4", "is a link that leaves the folder"),
        ("", "is not there"),
    ],
)
def test_takes_no_file_that_a_label_does_not_name(folder: VideoFolder, label: str, reason: str) -> None:
    with pytest.raises(NotFound, match=reason):
        folder.find(label, "_long_form")


def test_another_suffix_is_another_video_unless_the_set_has_endings(folder: VideoFolder) -> None:
    with pytest.raises(NotFound, match="is not there"):
        folder.find("a.avi")
    assert folder.find("a.avi", "") == "a.mp4"


@pytest.mark.parametrize(
    ("label", "near"),
    [
        ("clip_T_20.0.mp4", "Clip_t_20.0.mkv"),
        ("b.avi", "one/b.mp4"),
        ("long_form.mp4", "two/d_long_form.mp4"),
        ("d_lnog_form.mp4", "two/d_long_form.mp4"),
        ("two/b.mp4", "one/b.mp4"),
        ("nothing like it.mp4", None),
        ("", None),
    ],
)
def test_suggests_the_nearest_name(folder: VideoFolder, label: str, near: str | None) -> None:
    assert folder.nearest(label) == near
    assert near is None or folder.nearest(label, {near}) != near


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="--videos"):
        VideoFolder(tmp_path / "none")


@given(
    st.floats(-1e3, 1e3),
    st.floats(-1e3, 1e3),
    st.lists(st.floats(0, 1), min_size=2, max_size=2),
)
def test_the_map_to_mos_keeps_order_and_ends(low: float, high: float, shares: list[float]) -> None:
    if abs(high - low) < 1e-3:
        return
    assert (to_mos(low, (low, high)), to_mos(high, (low, high))) == (1.0, 5.0)
    worse, better = (to_mos(low + share * (high - low), (low, high)) for share in sorted(shares))
    assert 1 <= worse <= better <= 5
