"""Where scores go: rows, files that are gone on with, and what is in a row."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.frames import FrameInfo
from data.records import VideoRef
from evaluation.answers import ScoredVideo, trace_of
from evaluation.row_file import OutputError
from evaluation.score_file import ScoreFile
from evaluation.score_rows import COLUMNS, key_of, key_of_ref, row_of

SETTINGS = {"checkpoint": "m", "samples": 2}


def scored(video_id: str, text: str = "", window_s: tuple[float, float] | None = None) -> ScoredVideo:
    frames = FrameInfo((1, 4), 12, (96, 64), (48, 32), "decord 0.6.0")
    return ScoredVideo(
        video_id, f"/{video_id}", window_s, 3.5, text, text, [3.0, None], ["a", "b"], frames, 0.5
    )


def rows_of(path: Path) -> list[dict[str, Any]]:
    match path.suffix:
        case ".csv":
            return list(csv.DictReader(path.open(newline="")))
        case ".jsonl":
            return [json.loads(line) for line in path.read_text().split("\n")[:-1]]
        case _:
            return pd.read_parquet(path).to_dict("records")  # type: ignore[return-value]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_come_back_as_they_were_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scores{suffix}"
    text = 'a "quoted", line\nand\r\nanother\r日本'
    failed = ScoredVideo("bad", "/bad", None, None, failure="it is empty")
    with ScoreFile(path, SETTINGS) as file:
        for video in (scored("one", text), scored("one", text, (5.0, 10.0)), failed):
            file.append(row_of(video, "m"))
    first, window, bad = rows_of(path)
    assert tuple(first) == COLUMNS
    assert first["trace"] == text
    assert (first["scale"], first["frame_size"], first["source_size"]) == ("1 to 5", "32x48", "64x96")
    assert float(first["score"]) == 3.5
    assert float(window["start_s"]) == 5
    assert (bad["failure"], bad["score"] in ("", None) or bad["score"] != bad["score"]) == (
        "it is empty",
        True,
    )
    with ScoreFile(path, SETTINGS) as file:
        assert file.done == {("one", "/one", None), ("one", "/one", 5.0), ("bad", "/bad", None)}
        file.append(row_of(scored("two"), "m"))
    assert [row["video_id"] for row in rows_of(path)] == ["one", "one", "bad", "two"]


def test_a_row_of_many_long_answers_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    texts = [f"{number}{'x' * 3000}" for number in range(64)]
    with ScoreFile(path, SETTINGS) as file:
        file.append(row_of(replace(scored("one"), sample_texts=texts), "m"))
    with ScoreFile(path, SETTINGS) as file:
        assert file.done == {("one", "/one", None)}
        (row,) = file.rows()
        assert json.loads(row["sample_texts"]) == texts


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(cut=st.integers(0, 10_000), texts=st.lists(st.text(alphabet='a,"\n\r日'), min_size=1, max_size=4))
def test_killed_in_the_middle_of_a_row(tmp_path: Path, suffix: str, cut: int, texts: list[str]) -> None:
    """Wherever the file ends, its whole rows stay, and each of the others is written once."""
    path = tmp_path / f"scores{suffix}"
    path.unlink(missing_ok=True)
    videos = [scored(f"video {number}", text) for number, text in enumerate(texts)]
    with ScoreFile(path, SETTINGS) as file:
        for video in videos:
            file.append(row_of(video, "m"))
    whole = path.read_bytes()
    path.write_bytes(whole[: cut % (len(whole) + 1)])
    with ScoreFile(path, SETTINGS) as file:
        assert len(file.done) <= len(videos)
        for video in videos:
            row = row_of(video, "m")
            if key_of(row) not in file.done:
                file.append(row)
    assert path.read_bytes() == whole


def test_scores_made_otherwise_never_join(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    with ScoreFile(path, SETTINGS) as file:
        file.append(row_of(scored("one"), "m"))
    with (
        pytest.raises(
            OutputError,
            match=r"samples was 2 and is 4\. Use the same settings .*, or give another --out",
        ),
        ScoreFile(path, SETTINGS | {"samples": 4}),
    ):
        pass
    (tmp_path / "notes.csv").write_text("mine\n")
    with (
        pytest.raises(OutputError, match="remove it, or give another --out"),
        ScoreFile(tmp_path / "notes.csv", SETTINGS),
    ):
        pass
    assert (tmp_path / "notes.csv").read_text() == "mine\n"
    with pytest.raises(OutputError, match=r"ends in \.csv, \.jsonl, \.parquet"):
        ScoreFile(tmp_path / "scores.xlsx", SETTINGS)


def test_two_processes_do_not_write_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    with (
        ScoreFile(path, SETTINGS),
        pytest.raises(OutputError, match="another process"),
        ScoreFile(path, SETTINGS),
    ):
        pass


def test_a_ref_has_the_key_of_its_row() -> None:
    for video_id in ("plain", "bytes \udcff"):
        for window_s in (None, (2.5, 5.0)):
            ref = VideoRef(video_id, f"/{video_id}", 4, window_s=window_s)
            assert key_of(row_of(scored(video_id, window_s=window_s), "m")) == key_of_ref(ref)


@pytest.mark.parametrize("name", ["scores.csv", "scores.jsonl"])
def test_a_failure_may_name_bytes_that_are_no_text(tmp_path: Path, name: str) -> None:
    broken = ScoredVideo("bytes \udcff", "/bytes \udcff", None, None, failure="/bytes \udcff: not a video")
    with ScoreFile(tmp_path / name, SETTINGS) as file:
        file.append(row_of(broken, "m"))
        (row,) = file.rows()
    assert row["failure"] == "/bytes \\udcff: not a video"


def test_the_trace_is_what_is_thought() -> None:
    assert trace_of("<think> Soft edges.\nNoise. </think><answer>2</answer>") == "Soft edges.\nNoise."
    assert trace_of("no tags ") == "no tags"


def test_spread_of_samples_leaves_out_what_does_not_parse() -> None:
    video = ScoredVideo("v", "/v", None, None, samples=[3.0, None, 4.0])
    assert video.sample_mean == 3.5
    assert video.sample_spread == pytest.approx(0.5**0.5)
    assert ScoredVideo("v", "/v", None, None, samples=[None, 2.0]).sample_spread is None
