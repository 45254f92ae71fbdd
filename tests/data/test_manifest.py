"""Manifests are checked as a whole, and every message names row, column and fix."""

from pathlib import Path

import pandas as pd
import pytest

from data.manifest import ManifestError, manifest_hash, read_manifest


def write(folder: Path, rows: list[dict[str, object]], suffix: str = ".csv") -> Path:
    path = folder / f"manifest{suffix}"
    table = pd.DataFrame(rows)
    if suffix == ".csv":
        table.to_csv(path, index=False)
    elif suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_parquet(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"video")
    return tmp_path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_reads_rows_with_their_defaults(folder: Path, suffix: str) -> None:
    rows: list[dict[str, object]] = [
        {"path": "a.mp4", "mos": 1.5, "headline": False},
        {"path": "b.mp4", "mos": 5, "headline": True},
    ]
    first, second = read_manifest(write(folder, rows, suffix))
    assert (first.video_id, first.path, first.mos) == ("a.mp4", str(folder / "a.mp4"), 1.5)
    assert (first.split, first.label_set, first.source, first.rank_only) == ("train", "default", "", False)
    assert (first.headline, second.headline, second.mos) == (False, True, 5.0)


def test_reports_every_problem_at_once_with_its_row(folder: Path) -> None:
    path = write(
        folder,
        [
            {"path": "a.mp4", "mos": 7},
            {"path": "gone.mp4", "mos": 3},
            {"path": "b.mp4", "mos": "good"},
            {"path": "b.mp4", "mos": ""},
            {"path": "", "mos": 2},
            {"path": "../b.mp4", "mos": 2},
        ],
    )
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{path}:"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "row 2, mos",
        "row 3, path",
        "row 4, mos",
        "row 5, mos",
        "row 6, path",
        "row 7, path",
    ]
    assert "7 is outside 1 to 5: map the labels" in lines[1]
    assert "gone.mp4 does not exist" in lines[2]
    assert "leaves the folder" in lines[6]


def test_a_path_may_not_leave_the_root_through_a_link(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link.mp4").symlink_to(folder / "a.mp4")
    with pytest.raises(ManifestError, match="leaves the folder"):
        read_manifest(write(folder, [{"path": "link.mp4", "mos": 3}]), root)


def test_relative_paths_start_from_the_root(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    path = write(tmp_path / "else", [{"path": "a.mp4", "mos": 3}])
    assert read_manifest(path, root=folder)[0].path == str(folder / "a.mp4")


@pytest.mark.parametrize("mos", ["0.99", "5.01", "nan", "inf", "-3"])
def test_refuses_labels_that_are_off_the_scale(folder: Path, mos: str) -> None:
    with pytest.raises(ManifestError, match=r"row 2, mos: "):
        read_manifest(write(folder, [{"path": "a.mp4", "mos": mos}]))


def test_refuses_duplicate_rows(folder: Path) -> None:
    row: dict[str, object] = {"path": "a.mp4", "mos": 3}
    with pytest.raises(ManifestError, match="'a.mp4' is already in row 2"):
        read_manifest(write(folder, [row, row]))


def test_unknown_column_gets_a_suggestion(folder: Path) -> None:
    with pytest.raises(ManifestError, match="column 'sorce' is unknown; did you mean 'source'"):
        read_manifest(write(folder, [{"path": "a.mp4", "mos": 3, "sorce": "x"}]))


def test_missing_column(folder: Path) -> None:
    with pytest.raises(ManifestError, match="column 'mos' is missing"):
        read_manifest(write(folder, [{"path": "a.mp4"}]))


def test_missing_empty_and_foreign_files(folder: Path) -> None:
    with pytest.raises(ManifestError, match=r"no such manifest.*--data\.manifest"):
        read_manifest(folder / "none.csv")
    with pytest.raises(ManifestError, match="not '.xlsx'"):
        read_manifest(folder / "none.xlsx")
    (folder / "empty.csv").write_text("path,mos\n")
    with pytest.raises(ManifestError, match="it has no rows"):
        read_manifest(folder / "empty.csv")
    (folder / "broken.parquet").write_bytes(b"nonsense")
    with pytest.raises(ManifestError, match="cannot be read as parquet"):
        read_manifest(folder / "broken.parquet")


def test_manifests_differ_in_their_hash(folder: Path) -> None:
    before = manifest_hash(write(folder, [{"path": "a.mp4", "mos": 3}]))
    assert before != manifest_hash(write(folder, [{"path": "a.mp4", "mos": 4}]))


ORIGINAL: dict[str, object] = {
    "path": "a.mp4",
    "mos": 3.0,
    "original_mos": 50,
    "scale_low": 0,
    "scale_high": 100,
}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_carries_the_label_as_it_was(folder: Path, suffix: str) -> None:
    falling = {
        "path": "b.mp4",
        "mos": 2,
        "original_mos": 3,
        "scale_low": 4,
        "scale_high": 0,
        "label_set": "d",
    }
    first, second = read_manifest(write(folder, [ORIGINAL, falling], suffix))
    assert (first.original_mos, first.scale_low, first.scale_high) == (50.0, 0.0, 100.0)
    assert (second.original_mos, second.scale_low, second.scale_high) == (3.0, 4.0, 0.0)


def test_rows_without_an_original_label_have_none(folder: Path) -> None:
    plain: dict[str, object] = {"path": "b.mp4", "mos": 2, "label_set": "other"}
    first, second = read_manifest(write(folder, [ORIGINAL, plain]))
    assert first.original_mos == 50.0
    assert (second.original_mos, second.scale_low, second.scale_high) == (None, None, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale_low": ""}, "row 2, scale_low: is empty, but original_mos is not: give all of"),
        ({"original_mos": "x"}, "row 2, original_mos: 'x' is not a number"),
        ({"original_mos": "nan"}, "row 2, scale_low: 0 to 100 with a label of nan is no scale"),
        ({"scale_high": 0}, "row 2, scale_low: 0 to 0 with a label of 50 is no scale"),
        ({"original_mos": 60}, "row 2, original_mos: 60 on the scale 0 to 100 is a mos of 3.4, not 3"),
    ],
)
def test_refuses_an_original_label_that_contradicts(
    folder: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ManifestError) as caught:
        read_manifest(write(folder, [ORIGINAL | change]))
    assert message in str(caught.value)


def test_an_order_may_disagree_with_its_original(folder: Path) -> None:
    row = ORIGINAL | {"original_mos": 60, "rank_only": True}
    assert read_manifest(write(folder, [row]))[0].original_mos == 60.0


def test_a_label_set_has_one_scale(folder: Path) -> None:
    other = {"path": "b.mp4", "mos": 3, "original_mos": 3, "scale_low": 1, "scale_high": 5}
    with pytest.raises(ManifestError, match="label_set 'default' has rows of 2 scales"):
        read_manifest(write(folder, [ORIGINAL, other]))
    with pytest.raises(ManifestError, match="label_set 'default' has rows of 2 scales"):
        read_manifest(write(folder, [ORIGINAL, {"path": "b.mp4", "mos": 3}]))


@pytest.mark.parametrize("name", ["sub/../a.mp4", "./a.mp4", "link.mp4", "sub/back/a.mp4"])
def test_a_path_may_wander_below_the_root(folder: Path, name: str) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "back").symlink_to(folder)
    (folder / "link.mp4").symlink_to(folder / "a.mp4")
    assert read_manifest(write(folder, [{"path": name, "mos": 3}]))[0].path == str(folder / "a.mp4")


@pytest.mark.parametrize("name", ["sub", ".", "..", "nowhere/a.mp4", "broken.mp4", "a.mp4/b"])
def test_a_path_names_a_file(folder: Path, name: str) -> None:
    (folder / "sub").mkdir()
    (folder / "broken.mp4").symlink_to(folder / "none.mp4")
    with pytest.raises(ManifestError, match=r"row 2, path: .*(does not exist|leaves the folder)"):
        read_manifest(write(folder, [{"path": name, "mos": 3}]))
