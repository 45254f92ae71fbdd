"""A part of a video: --start and --end, checked against its length and recorded."""

import json
import math
from pathlib import Path

import pytest

from data.frames import clip_window, decode_pair, decode_video
from data.records import Completion, Group, VideoRef
from data.video_file import VideoError
from evaluation.answers import failed_video, scored_video
from evaluation.inputs import InputError, window_of
from evaluation.models import SHIPPED_BASE
from evaluation.score_job import ScoreJob, read_score_job
from evaluation.score_rows import key_of, key_of_ref, row_of
from runtime.errors import ConfigError
from tests.cli.test_command_line import launch

# The videos have 8 frames at 25 a second.


@pytest.mark.parametrize(
    ("start", "end", "window"),
    [
        (None, None, None),
        (2, None, (2, math.inf)),
        (None, 3, (0, 3)),
        (2, 3, (2, 3)),
        (0, None, (0, math.inf)),
    ],
)
def test_what_is_asked_for(
    start: float | None, end: float | None, window: tuple[float, float] | None
) -> None:
    assert window_of(start, end) == window


@pytest.mark.parametrize(
    ("start", "end"), [(-1, None), (2, 2), (3, 2), (None, 0), (math.nan, None), (1, math.nan)]
)
def test_what_cannot_be_is_refused(start: float | None, end: float | None) -> None:
    with pytest.raises(InputError, match="--start .* and --end"):
        window_of(start, end)


def test_a_window_ends_with_the_video() -> None:
    assert clip_window((2, math.inf), 10) == (2, 10)
    assert clip_window((2, 10.02), 10) == (2, 10), "people round"
    for window, beyond in (((10, math.inf), 10), ((11, 12), 11), ((2, 10.1), 10.1)):
        with pytest.raises(ValueError, match=f"it lasts 10 s, and nothing of it is shown at {beyond:g} s"):
            clip_window(window, 10)


def test_frames_of_a_window(videos: list[Path]) -> None:
    _, info = decode_video(videos[0], 2, window_s=(0.16, math.inf))
    assert info.indices == (5, 7)
    assert info.window_s == pytest.approx((0.16, 0.32))
    assert decode_video(videos[0], 2, window_s=(0.0, 0.16))[1].indices == (1, 3)
    assert decode_video(videos[0], 2)[1].window_s is None
    _, pair = decode_pair(str(videos[0]), str(videos[1]), 4, window_s=(0.16, math.inf))
    assert pair.beside is not None
    assert (pair.indices, pair.beside.indices) == ((5, 7), (5, 7))
    for window_s in ((0.32, math.inf), (0.1, 0.5)):
        with pytest.raises(VideoError, match="it lasts 0.32 s, and nothing of it is shown at"):
            decode_video(videos[0], 2, window_s=window_s)


def test_rows_say_which_part_it_was(videos: list[Path]) -> None:
    ref = VideoRef("v", str(videos[0]), 2, window_s=(0.16, math.inf))
    _, info = decode_video(ref.path, ref.n_frames, window_s=ref.window_s)
    answer = Completion([1], [0.0], "<answer>3</answer>", "stop", [0])
    row = row_of(scored_video(ref, info, [Group(ref, [1], [answer])], 0.1), "m")
    assert (row["start_s"], row["end_s"]) == (0.16, pytest.approx(0.32))
    failed = row_of(failed_video(ref, "it is empty", 0.1), "m")
    assert (failed["start_s"], failed["end_s"]) == (0.16, None)
    assert key_of(row) == key_of(failed) == key_of_ref(ref)
    json.dumps(failed, allow_nan=False)


def job(videos: list[Path], timeline_s: float | None, window_s: tuple[float, float] | None) -> ScoreJob:
    paths = [str(path) for path in videos]
    return read_score_job(paths, str(SHIPPED_BASE), 0, timeline_s, None, window_s)


def test_a_single_video_is_checked_before_an_engine_starts(videos: list[Path]) -> None:
    (ref,) = job(videos[:1], None, (0.08, math.inf)).refs()
    assert ref.window_s == pytest.approx((0.08, 0.32))
    with pytest.raises(ConfigError, match=r"video-0.mp4: it lasts 0.32 s, and nothing of it is shown at 7 s"):
        job(videos[:1], None, (7, math.inf)).refs()
    windows = [ref.window_s for ref in job(videos[:1], 0.12, (0.08, math.inf)).refs()]
    assert [*map(pytest.approx, windows)] == [(0.08, 0.2), (0.2, 0.32)]
    assert {ref.window_s for ref in job(videos, None, (7, math.inf)).refs()} == {(7, math.inf)}


def test_scores_of_another_part_do_not_join(videos: list[Path]) -> None:
    whole, part, other = (
        job(videos, None, window).output_settings() for window in (None, (1, 2), (1, math.inf))
    )
    assert (whole["start_s"], whole["end_s"]) == (None, None)
    assert (part["start_s"], part["end_s"]) == (1, 2)
    assert (other["start_s"], other["end_s"]) == (1, None)


@pytest.mark.parametrize("command", [("score",), ("ask",)])
def test_commands_check_the_part(videos: list[Path], command: tuple[str, ...]) -> None:
    question = ("What is it?",) if command == ("ask",) else ()
    code, output, _ = launch(*command, str(videos[0]), *question, "--start", "7")
    assert code == 2
    assert "video-0.mp4: it lasts 0.32 s, and nothing of it is shown at 7 s" in output
    assert "Traceback" not in output
