"""A folder of numbered pictures as one video."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from data.decode import Reading, decode_ref
from data.frames import FrameInfo, decode_video, video_duration_s
from data.paths import PICTURE_SUFFIXES, is_picture
from data.picture_folder import in_order
from data.records import Completion, Group, SamplingRequest, VideoRef
from data.video_file import Unreadable, VideoError
from evaluation.inputs import InputError, find_videos, frame_rate_of
from evaluation.settings import ScoringSettings
from launch import app
from tests.cli.test_command_line import launch


def picture(number: int, size: tuple[int, int] = (32, 24)) -> Image.Image:
    """Grey, as light as its number says."""
    return Image.fromarray(np.full((size[1], size[0], 3), 5 * number, dtype=np.uint8))


def numbers_of(frames: np.ndarray) -> list[int]:
    return [round(float(frame.mean()) / 5) for frame in frames]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures 1 to 12, whose names sort otherwise as text."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(1, 13):
        picture(number).save(folder / f"frame {number}.png")
    (folder / ".DS_Store").touch()
    (folder / "._frame 1.png").touch()
    (folder / "notes.txt").touch()
    return folder


def test_pictures_are_frames_in_the_order_of_their_numbers(folder: Path) -> None:
    frames, info = decode_video(folder, 4, frame_rate=6)
    assert numbers_of(frames) == [2, 5, 8, 11]
    assert frames.shape == (4, 24, 32, 3)
    assert (info.indices, info.n_total, info.source_px) == ((1, 4, 7, 10), 12, (24, 32))
    assert info.decoder.startswith("pictures, 6 a second")
    assert video_duration_s(folder, frame_rate=6) == 2
    window, info = decode_video(folder, 3, max_px=16, window_s=(1, 1.5), frame_rate=6)
    assert numbers_of(window) == [7, 8, 9]
    assert (info.px, info.window_s) == ((12, 16), (1, 1.5))


@pytest.mark.parametrize("suffix", sorted(PICTURE_SUFFIXES))
def test_each_kind_of_picture_is_read(suffix: str, tmp_path: Path) -> None:
    for number in (0, 25, 50):
        picture(number).save(tmp_path / f"{number:04}{suffix}")
    frames, _ = decode_video(tmp_path, 3, frame_rate=25)
    assert numbers_of(frames) == [0, 25, 50]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["a1.png", "a2.png", "a5.png", "a6.png"], r"missing between a2.png and a5.png \(1 gaps in all\)"),
        (["1.png", "11.png", "21.png", "41.png"], "missing between 21.png and 41.png"),
        (["1.png", "cover.png"], "cover.png has no number"),
        (["a1.png", "b1.png"], "a1.png and b1.png belong to several videos"),
        (["1.png", "2.jpg"], "1.png and 2.jpg belong to several videos"),
        (["1.png", "01.png"], "01.png and 1.png have one number"),
    ],
)
def test_what_is_no_sequence_is_refused(names: Sequence[str], reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        in_order(names)


@given(st.integers(0, 10**6), st.integers(1, 100), st.integers(1, 40), st.sampled_from(["", "v2_", "a 1 b "]))
def test_any_even_step_is_a_sequence(first: int, step: int, count: int, before: str) -> None:
    names = [f"{before}{first + step * number}.PNG" for number in range(count)]
    assert in_order(reversed(names)) == names


def test_times_for_names_may_be_rounded() -> None:
    names = ["0.jpg", "33.jpg", "67.jpg", "100.jpg"]
    assert in_order(names) == names


def test_pictures_are_turned_as_their_camera_says(tmp_path: Path) -> None:
    """By the orientation in EXIF: 6 is a quarter clockwise, 8 one counter-clockwise, 3 half a turn."""
    pixels = np.zeros((24, 32, 3), dtype=np.uint8)
    pixels[:12, :16] = 255  # top left
    corners = {1: (0, 0), 3: (1, 1), 6: (0, 1), 8: (1, 0)}
    for number, (orientation, (row, column)) in enumerate(corners.items()):
        exif = Image.Exif()
        exif[0x0112] = orientation
        folder = tmp_path / str(number)
        folder.mkdir()
        Image.fromarray(pixels).save(folder / "1.jpg", exif=exif)
        ((upright,), info) = decode_video(folder, 1, frame_rate=25)
        assert info.px == ((24, 32) if orientation in (1, 3) else (32, 24))
        height, width = info.px
        light = upright[row * height // 2 :, column * width // 2 :][: height // 2, : width // 2]
        assert light.mean() > 200
        assert upright.mean() < 80


def test_bad_pictures_and_folders_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="is a folder: `score --as-video`"):
        decode_video(folder, 4)
    with pytest.raises(VideoError, match="it has no frames"):
        decode_video(tmp_path, 4, frame_rate=25)
    (folder / "frame 2.png").write_bytes(b"no picture")
    with pytest.raises(VideoError, match="frame 2.png: "):
        decode_video(folder, 4, frame_rate=25)
    picture(2, (40, 24)).save(folder / "frame 2.png")
    with pytest.raises(VideoError, match="of several sizes, 32x24 and 40x24"):
        decode_video(folder, 4, frame_rate=25)


def test_each_folder_with_pictures_is_a_video(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside videos that are files, and with sub-folders of their own."""
    monkeypatch.chdir(folder.parent)
    (folder / "inner").mkdir()
    picture(1).save(folder / "inner" / "0001.jpg")
    (folder / "b.mp4").touch()
    found = find_videos(["frames/"], frame_rate=24)
    assert [video_id for video_id, _ in found.videos] == ["frames", "frames/b.mp4", "frames/inner"]
    assert found.ignored == 3
    assert {ref.frame_rate for ref in found.refs(4)} == {24}
    assert [video_id for video_id, _ in find_videos(["frames"]).videos] == ["frames/b.mp4"]
    with pytest.raises(InputError, match=r"with --as-video, a folder of numbered pictures \(1 here\)"):
        find_videos(["frames/inner"])
    (folder / "table.csv").write_text("path\ninner\n")
    assert find_videos(["frames/table.csv"], frame_rate=24).videos == [("inner", str(folder / "inner"))]
    assert not is_picture("._0001.jpg")


def test_options_of_picture_folders(folder: Path) -> None:
    assert (frame_rate_of(False, None), frame_rate_of(True, None), frame_rate_of(True, 30)) == (None, 25, 30)
    with pytest.raises(InputError, match="--frame-rate 0: give"):
        frame_rate_of(True, 0)
    code, output, _ = launch("score", str(folder), "--frame-rate", "30")
    assert code == 2
    assert "give --as-video, too" in output
    code, output, _ = launch("ask", str(folder), "What is it?")
    assert code == 2
    assert "is a folder; with --as-video, its numbered pictures are one video" in output


def test_a_question_is_asked_about_picture_folders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the command line to the decoded frames, for one video and for two."""
    looked: list[FrameInfo] = []

    class FakeScorer:
        def __init__(self, settings: ScoringSettings) -> None:
            self.settings = settings

        async def __aenter__(self) -> "FakeScorer":
            return self

        async def __aexit__(self, *error: object) -> None:
            pass

        async def sample(
            self, ref: VideoRef, requests: Sequence[SamplingRequest]
        ) -> tuple[FrameInfo, list[Group]]:
            info, _ = decode_ref(ref, Reading(max_px=64))
            assert isinstance(info, FrameInfo), info
            looked.append(info)
            completion = Completion([1], [0.0], "<answer>grey</answer>", "stop", [0])
            return info, [Group(ref, [1], [completion])]

    monkeypatch.setattr("evaluation.scorer.Scorer", FakeScorer)
    command = ["ask", str(folder), "What is it?", "--as-video", "--frame-rate", "6", "--start", "1", "--json"]
    for beside in ([], ["--beside", str(folder)]):
        result = CliRunner().invoke(app, [*command, "--frames", "4", *beside])
        assert result.exit_code == 0, result.output
        assert json.loads(result.output)["answer"] == "grey"
    single, pair = looked
    assert (single.indices, single.window_s) == ((6, 8, 9, 11), (1, 2))
    assert single.decoder.startswith("pictures, 6 a second")
    assert pair.beside is not None
    assert pair.indices == pair.beside.indices == (7, 10)
