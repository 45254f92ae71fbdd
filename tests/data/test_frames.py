"""Real files through decord, and decoding in Ray tasks that may be killed."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st

from data.decode import Decoder, Reading, decode_ref
from data.frames import decode_video, frame_indices, read_frames
from data.records import VideoRef
from data.seeds import stable_hash
from data.video_file import VideoError
from tests.conftest import moving_frames


@given(st.integers(1, 500), st.integers(1, 40))
def test_frames_come_from_the_middle_of_equal_segments(n_total: int, n_frames: int) -> None:
    indices = frame_indices(n_total, n_frames)
    assert len(indices) == n_frames
    for i, index in enumerate(indices):
        assert i * n_total / n_frames - 1 < index < (i + 1) * n_total / n_frames
    assert indices.min() >= 0
    assert indices.max() < n_total


def test_reads_back_the_pixels_that_were_written(videos: list[Path]) -> None:
    frames = read_frames(videos[2], n_frames=4)
    assert np.array_equal(frames, moving_frames(8, seed=2)[[1, 3, 5, 7]])


def test_shrinks_but_never_enlarges(videos: list[Path]) -> None:
    assert read_frames(videos[0], 2, max_px=28).shape == (2, 28, 28, 3)
    assert read_frames(videos[0], 2, max_px=500).shape == (2, 56, 56, 3)


def damaged(folder: Path, whole: Path, kind: str) -> Path:
    path = folder / f"{kind}.mp4"
    content = whole.read_bytes()
    if kind != "missing":
        path.write_bytes(
            {"empty": b"", "truncated": content[: len(content) // 2], "text": b"hello" * 99}[kind]
        )
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("missing", "No such file"), ("empty", "the file is empty"), ("truncated", "not a readable video"),
     ("text", "not a readable video")],
)  # fmt: skip
def test_a_bad_file_is_named_with_its_reason(
    videos: list[Path], tmp_path: Path, kind: str, reason: str
) -> None:
    path = damaged(tmp_path, videos[0], kind)
    with pytest.raises(VideoError, match=reason) as caught:
        read_frames(path, 4)
    assert caught.value.path == str(path)


def test_a_name_that_is_not_utf_8_is_read(videos: list[Path], tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/clip \xff.mp4"))
    path.write_bytes(videos[0].read_bytes())
    frames, info = decode_video(path, 4)
    assert np.array_equal(frames, read_frames(videos[0], 4))
    assert info.decoder.startswith("PyAV")
    with pytest.raises(VideoError, match="no name that is not UTF-8: choose the decoder auto or pyav"):
        decode_video(path, 4, decoder="decord")
    assert stable_hash(str(path)) != stable_hash(str(videos[0]))


def test_what_a_decoder_fails_at_in_its_own_way_costs_one_video(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise TypeError("no such plane")

    monkeypatch.setattr("data.decode.decode_video", fail)
    error, frames = decode_ref(VideoRef("bad", "/bad.mp4", 4), Reading(448))
    assert str(error) == "/bad.mp4: TypeError: no such plane"
    assert frames is None


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ray.exceptions.WorkerCrashedError(), "the decoder crashed"),
        (ray.exceptions.OutOfMemoryError("killed"), "ran out of memory"),
        (ray.exceptions.NodeDiedError("gone"), "the machine that decoded it died"),
        (ray.exceptions.LocalRayletDiedError(), "Ray died on the machine"),
        (ray.exceptions.ObjectLostError("00", None, ""), "lost with the machine"),
    ],
)
def test_what_happens_to_a_machine_costs_one_video(failure: Exception, reason: str) -> None:
    class Task:
        def remote(self, *arguments: Any) -> tuple[Any, Any]:
            async def lost() -> None:
                raise failure

            return lost(), None

    decoder = Decoder(Reading(448), timeout_s=3, tasks=1, cpus=1)
    decoder._one = Task()
    with pytest.raises(VideoError, match=reason) as caught:
        asyncio.run(decoder.look(VideoRef("bad", "/bad.mp4", 4)))
    assert caught.value.path == "/bad.mp4"


@pytest.mark.engine
def test_decoder_hands_out_references_and_reports_bad_files(
    local_ray: None, videos: list[Path], tmp_path: Path
) -> None:
    decoder = Decoder(Reading(448), timeout_s=60, tasks=2, cpus=1)
    bad = damaged(tmp_path, videos[0], "truncated")

    async def run() -> list[Any]:
        refs = [VideoRef("good", str(videos[0]), 4), VideoRef("bad", str(bad), 4)]
        return await asyncio.gather(*(decoder.look(ref) for ref in refs), return_exceptions=True)

    good, error = asyncio.run(run())
    assert np.array_equal(ray.get(good[1]), read_frames(videos[0], 4))
    assert isinstance(error, VideoError)
    assert error.path == str(bad)


@pytest.mark.engine
@pytest.mark.parametrize(
    ("act", "reason"), [("hang", "not decoded within 3 s"), ("crash", "the decoder crashed")]
)
def test_a_decoder_that_hangs_or_crashes_costs_one_video(
    local_ray: None, videos: list[Path], act: str, reason: str
) -> None:
    @ray.remote(num_returns=2, max_retries=0)
    def misbehave(ref: VideoRef, reading: Reading) -> tuple[int, int]:
        if act == "crash":
            os._exit(1)
        time.sleep(1000)
        return 0, 0

    decoder = Decoder(Reading(448), timeout_s=3, tasks=1, cpus=1)
    well = decoder._one
    decoder._one = misbehave

    async def run() -> None:
        with pytest.raises(VideoError, match=reason):
            await decoder.look(VideoRef("bad", "/bad.mp4", 4))
        decoder._one, decoder._timeout_s = well, 60
        await decoder.look(VideoRef("good", str(videos[0]), 4))

    started = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - started < 45
