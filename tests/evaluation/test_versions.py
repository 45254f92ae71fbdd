"""What `launch.py compare` compares: videos of one content, or folders of videos of equal names."""

from pathlib import Path

import pytest

from evaluation.inputs import InputError
from evaluation.versions import Rated, compare_versions, find_versions, rated_of_row


def folder(parent: Path, name: str, *files: str) -> str:
    for file in files:
        path = parent / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return str(parent / name)


def test_videos_are_versions_of_one_content(tmp_path: Path) -> None:
    folder(tmp_path, ".", "a.mp4", "b.mkv", "c.odd")
    names = [str(tmp_path / name) for name in ("a.mp4", "b.mkv", "c.odd")]
    found = find_versions(names)
    assert not found.of_folders
    assert [path for _, path in found.videos()] == names


def test_folders_are_paired_by_name(tmp_path: Path) -> None:
    """The suffix counts only where a folder has one name twice."""
    one = folder(tmp_path, "x264", "a.mp4", "deep/b.mp4", "only.mp4", "twice.mp4", "twice.mov", "notes.txt")
    other = folder(tmp_path, "av1", "a.webm", "deep/b.webm", "b.webm", "twice.mov")
    found = find_versions([one, other])
    assert found.of_folders
    assert list(found.contents) == ["a", "deep/b", "twice.mov"]
    assert [Path(video[1]).name for video in found.contents["a"] if video] == ["a.mp4", "a.webm"]
    assert sorted(Path(name).name for name in found.alone) == ["b.webm", "only.mp4", "twice.mp4"]
    assert found.ignored == 1
    assert len(found.videos()) == 6


def test_of_three_folders_two_with_a_name_make_a_pair(tmp_path: Path) -> None:
    folders = [folder(tmp_path, "a", "x.mp4"), folder(tmp_path, "b", "y.mp4"), folder(tmp_path, "c", "x.mp4")]
    found = find_versions(folders)
    assert [video is not None for video in found.contents["x"]] == [True, False, True]
    assert [Path(name).name for name in found.alone] == ["y.mp4"]
    rated = Rated("v", "/v", 3.0, (3.0, 3.5), "trace")
    (pair,) = compare_versions(found, {"x": [rated, None, rated]}).pairs
    assert (pair.first, pair.second, pair.confidence) == (0, 2, 0.5)


def test_a_folder_of_pictures_is_one_video(tmp_path: Path) -> None:
    one, other = (folder(tmp_path, name, "f-1.png", "f-2.png") for name in ("one", "other"))
    assert not find_versions([one, other], frame_rate=25).of_folders


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a/x.mp4"], "two or more versions, and 1 is given"),
        (["a/x.mp4", "a/gone.mp4"], "gone.mp4: no such file"),
        (["a/x.mp4", "b/../a/x.mp4"], "is the same as"),
        (["a", "b/y.mp4"], "is a folder of videos and"),
        (["a", "b"], "no video has a partner of its name in another folder"),
        (["a/x.mp4", "table.csv"], "table.csv is a table"),
        (["a", "empty"], "none of its 1 files"),
    ],
)
def test_what_cannot_be_compared_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    folder(tmp_path, ".", "a/x.mp4", "b/y.mp4", "table.csv", "empty/notes.txt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        find_versions(arguments)


def test_too_few_parsed_samples_are_a_failure() -> None:
    row = {
        "video_id": "v",
        "path": "/v",
        "score": "2.5",
        "samples": "[3.5, null]",
        "trace": "t",
        "failure": "",
    }
    assert rated_of_row(row).failure == "1 of its 2 sampled answers parse, 2 are needed"
    rated = rated_of_row(row | {"samples": [3.5, None, 2.5]})
    assert (rated.score, rated.mean, rated.failure) == (2.5, 3.0, "")
    assert (
        rated_of_row(row | {"score": None, "failure": "it is empty", "samples": []}).failure == "it is empty"
    )
