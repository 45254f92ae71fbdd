"""Every frame asked for, of every kind of file, against FFmpeg's own program decoding all of it in order.

`python -m tests.data.test_right_frames` prints the table.
"""

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest

from data.facts import VideoFacts
from data.frames import FrameInfo, decode_video
from data.pyav_video import PyAVInOrder
from data.video_file import DecoderName, VideoError
from tests.awkward_files import ANY_ORDER, DAMAGED, FILES, AwkwardFile
from tests.numbered_pictures import SIZE, block_means, decode_in_order, number_of

TOLERANCE = 5.0
"""Grey levels by which the mean colour of a block of 16 x 16 pixels may differ in a channel. Decoders round
in different ways, and place colour that is stored at half the size up to half a pixel apart."""

_FEW = 5


@dataclass(frozen=True)
class Reading:
    info: FrameInfo
    difference: float
    """The greatest of all blocks of all frames, to those of FFmpeg's program."""


def read(file: AwkwardFile, path: Path) -> Reading:
    """All frames, and a few with seeks between them. Raises VideoError, or AssertionError for a wrong one."""
    expected = decode_in_order(path, file.size, file.filters)
    frames, info = decode_video(path, len(expected), strict=False)
    assert list(info.indices) == list(range(len(expected)))
    if file.readable:
        numbers = [number_of(frame) for frame in expected]
        assert numbers == sorted(set(numbers)), "the numbers in the pictures are not those that were written"
        assert [number_of(frame) for frame in frames] == numbers
    difference = np.abs(block_means(frames) - block_means(expected)).max()
    few, few_info = decode_video(path, _FEW, strict=False)
    assert few_info.n_total == len(expected)
    assert np.array_equal(few, frames[list(few_info.indices)])
    in_order = PyAVInOrder(str(path))
    for number, picture in enumerate(in_order.pictures(range(len(expected)))):
        if picture.sar == 1:
            assert np.array_equal(picture.pixels, frames[number])
    in_order.close()
    return Reading(info, float(difference))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_frames_are_those_of_decoding_in_order(file: AwkwardFile, tmp_path: Path) -> None:
    path = tmp_path / file.name
    file.make(path)
    if file.reader not in ("seeking", ANY_ORDER):
        decoders: tuple[DecoderName, ...] = ("auto", "decord")
        for decoder in decoders:
            with pytest.raises(VideoError) as caught:
                decode_video(path, 4, decoder=decoder, strict=False)
            assert decoder == "decord" or caught.value.kind == file.reader
        return
    reading = read(file, path)
    assert reading.difference <= TOLERANCE
    assert reading.info.decoder.endswith(ANY_ORDER) == (file.reader == ANY_ORDER)
    check_marks(file, reading.info.facts)
    if file.marks.get("truncated"):
        with pytest.raises(VideoError) as caught:
            decode_video(path, 4)
        assert caught.value.kind == "truncated"
    check_decord(file, path)


def test_what_is_wrong_is_beyond_the_tolerance(tmp_path: Path) -> None:
    """By far: another number, the other of the two usual matrices, the other range, a mirrored picture."""
    path = tmp_path / "bt709.mp4"
    next(file for file in FILES if file.name == path.name).make(path)
    right, after = block_means(decode_in_order(path, SIZE)[:2])
    misread = (
        decode_in_order(path, SIZE, f"scale=in_{what}")[:1] for what in ("color_matrix=bt601", "range=pc")
    )
    for means in [after, right[::-1], right[:, ::-1], *(block_means(pictures)[0] for pictures in misread)]:
        assert np.abs(means - right).max() > 2 * TOLERANCE


def check_marks(file: AwkwardFile, facts: VideoFacts) -> None:
    for name, value in asdict(facts).items():
        expected = file.marks.get(name, getattr(VideoFacts(), name))
        if expected == DAMAGED:
            assert value
        elif name == "truncated" and expected:
            assert expected in value
        elif name != "transfer" or value not in ("bt709", "smpte170m"):
            # Encoders state an ordinary transfer function of their own accord.
            assert value == expected, name


def check_decord(file: AwkwardFile, path: Path) -> None:
    """It shows the same, or refuses."""
    try:
        frames, info = decode_video(path, _FEW, decoder="decord", strict=False)
    except VideoError:
        if file.decord:
            raise
        return
    expected = decode_in_order(path, file.size, file.filters)
    assert info.n_total == len(expected)
    assert np.abs(block_means(frames) - block_means(expected[list(info.indices)])).max() <= TOLERANCE


def main() -> None:
    print(f"{'file':26} {'frames':>6} {'read':18} {'difference':>10}  {'decord':8} marks")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        for file in FILES:
            path = Path(scratch) / file.name
            file.make(path)
            try:
                few, _ = decode_video(path, _FEW, strict=False)
            except VideoError as error:
                print(f"{file.name:26} {'':6} refused: {error.reason}")
                continue
            reading = read(file, path)
            facts = asdict(reading.info.facts)
            marks = {name: value for name, value in facts.items() if value != getattr(VideoFacts(), name)}
            try:
                theirs, _ = decode_video(path, _FEW, decoder="decord", strict=False)
                off = np.abs(block_means(theirs) - block_means(few)).max()
                decord = "same" if off <= TOLERANCE else f"off {off:.0f}"
            except VideoError:
                decord = "refused"
            way = ANY_ORDER if reading.info.decoder.endswith(ANY_ORDER) else "seeking"
            n_total, difference = reading.info.n_total, reading.difference
            print(f"{file.name:26} {n_total:6} {way:18} {difference:10.2f}  {decord:8} {marks or ''}")
    print(f"{len(FILES)} files in {time.perf_counter() - started:.0f} s, tolerance {TOLERANCE:g} grey levels")


if __name__ == "__main__":
    main()
