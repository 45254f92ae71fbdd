"""What reading does besides taking the right frames: it gives the same again, holds little, and says what is
wrong with a file."""

import subprocess
import sys
import tomllib
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from benchmarks.decoders import make_clip
from data.containers import logged_errors
from data.damage import SentPacket, ShownPicture, damaged_pictures
from data.facts import VideoFacts
from data.frames import decode_video
from data.picture import orientation
from data.video_file import VideoError
from tests.awkward_files import FILES, X264, N
from tests.conftest import ROOT
from tests.numbered_pictures import encode, number_of


def made(name: str, folder: Path) -> Path:
    path = folder / name
    next(file for file in FILES if file.name == name).make(path)
    return path


def test_the_same_call_gives_the_same_pixels_200_times(tmp_path: Path) -> None:
    """decord gave others in every third call where times repeat."""
    path = made("repeated-times.mkv", tmp_path)
    first, info = decode_video(path, 6)
    assert [number_of(frame) for frame in first] == list(info.indices)
    assert all(np.array_equal(decode_video(path, 6)[0], first) for _ in range(199))
    with pytest.raises(VideoError, match="times repeat or are missing: choose the decoder auto or pyav"):
        decode_video(path, 6, decoder="decord")


def test_an_index_that_calls_every_picture_a_key_frame(tmp_path: Path) -> None:
    """As some capture programs write it: seeking leads to pictures that refer to others."""
    path = encode(tmp_path / "capture.avi", "-c:v mpeg4 -qmin 1 -q:v 1 -g 40", N)
    content = bytearray(path.read_bytes())
    at, end = content.index(b"idx1") + 8, len(content)
    assert sum(content[entry + 4] & 0x10 for entry in range(at, end, 16)) == 0x10
    for entry in range(at, end, 16):
        content[entry + 4] |= 0x10
    path.write_bytes(bytes(content))
    frames, info = decode_video(path, 5)
    assert [number_of(frame) for frame in frames] == list(info.indices)
    assert info.facts.damaged_frames == ()


def test_errors_with_the_same_text_all_count() -> None:
    """FFmpeg's log leaves out a message that repeats the last one, by default."""
    for _ in range(3):
        with logged_errors() as errors:
            av.logging.log(av.logging.ERROR, "h264", "error while decoding MB 3 4")
        assert [text for _, _, text in errors] == ["error while decoding MB 3 4"]


def test_every_file_without_its_index_is_said_to_be_cut(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", X264, N)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"moov") - 4])
    for _ in range(2):
        with pytest.raises(VideoError, match=r"the box moov\) is missing: the file is cut short") as caught:
            decode_video(path, 2)
        assert caught.value.kind == "truncated"


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path) -> None:
    """Each count in a process of its own; 20 frames more are 53 MiB as RGB, 26 MiB as decoded."""
    path = tmp_path / "clip.mp4"
    make_clip(path, 1, 720, 1280, 24)

    def peak_mib(n_frames: int) -> int:
        call = f"peak({str(path)!r}, {n_frames}, 224, 'pyav')['peak_above_imports_mib']"
        source = f"from benchmarks.decode_memory import peak; print({call})"
        done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, check=True)
        return int(done.stdout)

    assert peak_mib(24) < peak_mib(4) + 12


def test_a_cut_file_is_shown_with_a_mark_unless_one_is_strict(tmp_path: Path) -> None:
    path = made("cut.mkv", tmp_path)
    frames, info = decode_video(path, 4, strict=False)
    assert [number_of(frame) for frame in frames] == list(info.indices)
    assert set(info.facts.marks) == {"truncated"}
    assert "of its 1.6 s" in info.facts.truncated
    with pytest.raises(VideoError, match=r"cut.mkv: .*it ends at 0\.\d of its 1\.6 s") as caught:
        decode_video(path, 4)
    assert caught.value.kind == "truncated"


def test_damage_is_marked_where_it_shows(tmp_path: Path) -> None:
    """From the picture that was hit to the next key frame, and nowhere else."""
    path = made("damaged.mp4", tmp_path)
    frames, info = decode_video(path, N, strict=False)
    damaged = sorted(info.facts.damaged_frames)
    assert damaged
    assert damaged[0] >= 12
    assert damaged[-1] < 24
    whole = decode_video(encode(tmp_path / "whole.mp4", X264, N), N)[0]
    hurt = [number_of(frame) for frame in whole if not any(np.array_equal(frame, f) for f in frames)]
    assert set(hurt) <= set(range(12, 24))


def test_stored_pixels_can_be_asked_for(tmp_path: Path) -> None:
    path = made("wide-pixels.mp4", tmp_path)
    assert decode_video(path, 1)[1].px == (64, 128)
    assert decode_video(path, 1, max_px=64)[1].px == (32, 64)
    frames, info = decode_video(path, 1, square=False)
    assert info.px == info.source_px == (64, 96)
    assert number_of(frames[0]) == info.indices[0]
    assert info.facts.marks == {"sar": "4:3"}


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("flip_rows", [False, True])
@pytest.mark.parametrize("flip_columns", [False, True])
def test_every_display_matrix_of_turns_and_mirrors(
    transposed: bool, flip_rows: bool, flip_columns: bool
) -> None:
    """A pixel at (x, y) is shown at (a x + c y, b x + d y), with y from top to bottom."""
    across, down = -1 if flip_columns else 1, -1 if flip_rows else 1
    a, b, c, d = (0, down, across, 0) if transposed else (across, 0, 0, down)
    matrix = np.array([a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30], np.int32)

    class Frame:
        side_data = {"DISPLAYMATRIX": matrix.tobytes()}  # noqa: RUF012

    assert orientation(Frame()) == (transposed, flip_rows, flip_columns)


@given(st.data())
def test_damage_reaches_to_the_next_key_frame(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 30))
    keys = {0} | data.draw(st.sets(st.integers(0, n - 1)))
    failed = data.draw(st.sets(st.integers(0, n - 1)))
    packets = [SentPacket(at, at in keys, at in failed) for at in range(n)]
    damaged = damaged_pictures(packets, [ShownPicture(at, False) for at in range(n)])
    group = [max(key for key in keys if key <= at) for at in range(n)]
    assert damaged == {at for at in range(n) if any(group[at] <= f <= at for f in failed)}
    flagged = damaged_pictures(
        [SentPacket(at, at in keys, False) for at in range(n)],
        [ShownPicture(at, at in failed) for at in range(n)],
    )
    assert flagged == damaged


def test_a_picture_shown_before_its_key_frame_depends_on_the_one_before() -> None:
    """In an open group: sent behind the key frame, shown before it."""
    packets = [SentPacket(0, True, False), SentPacket(1, False, True), SentPacket(4, True, False)]
    packets += [SentPacket(3, False, False), SentPacket(5, False, False)]
    pictures = [ShownPicture(time, False) for time in (0, 1, 3, 4, 5)]
    assert damaged_pictures(packets, pictures) == {1, 2}


def test_marks_are_what_most_files_have_not() -> None:
    assert VideoFacts(transfer="bt709").marks == {}
    assert VideoFacts("4:3", True, "smpte2084", damaged_frames=(2,)).marks == {
        "sar": "4:3", "interlaced": True, "transfer": "smpte2084", "damaged_frames": (2,),
    }  # fmt: skip


def test_versions_that_read_wrong_are_not_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {r.name: r.specifier for r in map(Requirement, project["dependencies"])}
    assert not needed["av"].contains("16.1.0"), "converts BT.709 as BT.601"
    assert not needed["av"].contains("18.0.0"), "does not tell the order of fields"
    assert needed["av"].contains(av.__version__)
