"""Manifests are checked as a whole, and every message names row, column and cure."""

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


def test_hash_tells_manifests_apart(folder: Path) -> None:
    before = manifest_hash(write(folder, [{"path": "a.mp4", "mos": 3}]))
    assert before != manifest_hash(write(folder, [{"path": "a.mp4", "mos": 4}]))
