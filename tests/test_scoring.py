"""Which videos and which model a command means, where scores go, and that they depend on nothing else."""

import asyncio
import csv
import json
import os
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.answers import trace_of
from cluster.concurrently import concurrently
from cluster.config import ConfigError, dump_config, load_config
from cluster.scoring.checkpoints import (
    SHIPPED_BASE,
    fingerprint,
    resolve_checkpoint,
    scoring_settings,
    view_of,
)
from cluster.scoring.inputs import InputError, find_videos
from cluster.scoring.output import OutputError, ScoreFile
from cluster.scoring.rows import COLUMNS, key_of, key_of_ref, row_of
from cluster.scoring.scored_video import ScoredVideo
from cluster.scoring.scorer import Scorer, ScoringSettings
from cluster.scoring.timeline import plot_path, plot_timeline, windows
from data.decode import Looks
from data.frames import FrameInfo, VideoError
from data.model_view import ModelView, write_view
from data.records import Completion, Group, SamplingRequest, VideoRef
from data.tables import write_table
from tests.test_command_line import launch

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


# Which videos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Videos among other files, in sub-folders, under awkward names."""
    folder = tmp_path / "videos"
    for name in (
        "b.mp4",
        "a.MKV",
        "notes.txt",
        "sub folder/ünï 日本.webm",
        "sub folder/deeper/c.mov",
        "x.mp4.txt",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_a_folder_is_walked_by_suffix(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    found = find_videos(["videos/"])
    assert [video_id for video_id, _ in found.videos] == [
        "videos/a.MKV", "videos/b.mp4", "videos/sub folder/ünï 日本.webm", "videos/sub folder/deeper/c.mov",
    ]  # fmt: skip
    assert all(path == str(folder.parent / video_id) for video_id, path in found.videos)
    assert found.ignored == 2


def test_a_video_named_twice_is_scored_once(folder: Path) -> None:
    found = find_videos([str(folder / "b.mp4"), str(folder), f"{folder}/./b.mp4"])
    assert len(found.videos) == 4
    assert found.videos[0] == (str(folder / "b.mp4"), str(folder / "b.mp4"))
    assert found.repeated == 2


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_table_needs_a_path_only(folder: Path, suffix: str) -> None:
    table = pd.DataFrame({"path": ["b.mp4", "sub folder/gone.mp4"], "anything": [1, 2]})
    path = folder / f"table{suffix}"
    write_table(table, path)
    assert find_videos([str(path)]).videos == [
        ("b.mp4", str(folder / "b.mp4")),
        ("sub folder/gone.mp4", str(folder / "sub folder" / "gone.mp4")),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("mos\n3\n", "column 'path' is missing; it has mos"),
        ("path,mos\na.mp4,1\n,2\n", "row 3, path"),
        ("path\n", "no rows"),
    ],
)
def test_a_bad_table_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        find_videos([str(tmp_path / "table.csv")])


def test_the_paths_of_a_table_start_from_the_root_and_stay_in_it(folder: Path) -> None:
    lists = folder / "sub folder"
    table = lists / "table.csv"
    table.write_text("path\nb.mp4\n")
    assert find_videos([str(table)]).videos == [("b.mp4", str(lists / "b.mp4"))]
    assert find_videos([str(table)], folder).videos == [("b.mp4", str(folder / "b.mp4"))]
    (lists / "link").symlink_to(folder)
    for path in ("../b.mp4", "link/b.mp4", str(folder / "b.mp4"), "/etc/hostname", "deeper/../../../x"):
        table.write_text(f"path\ndeeper/c.mov\n{path}\n")
        message = f"{table}: row 3, path: '{path}' leaves the folder {lists}: move the file, or set --root"
        with pytest.raises(InputError, match=re.escape(message)):
            find_videos([str(table)])
    table.write_text(f"video_id,path\nb,{folder}/b.mp4\n")
    assert find_videos([str(table)], folder).videos == [("b", str(folder / "b.mp4"))]
    with pytest.raises(InputError, match="--root .*gone: no such folder"):
        find_videos([str(table)], folder / "gone")


def test_what_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"gone\.mp4: no such file or folder"):
        find_videos([str(tmp_path / "gone.mp4")])
    with pytest.raises(InputError, match="none of its 1 files has the suffix of a video"):
        find_videos([str(tmp_path)])
    code, output, seconds = launch("score", str(tmp_path / "gone.mp4"))
    assert code == 2
    assert "gone.mp4: no such file or folder; give a video, a folder or a manifest" in output
    assert "Traceback" not in output
    assert seconds < 5 * float(os.environ.get("PATIENCE", 1))


# Which model


def run_directory(path: Path, finished: bool, frames: int = 5) -> Path:
    (path / "final").mkdir(parents=True)
    (path / "run.json").write_text("{}")
    (path / "config.json").write_text(dump_config(load_config(None, [f"--data.frames_per_video={frames}"])))
    if finished:
        (path / "final" / "config.json").write_text('{"model_type": "internvl"}')
    return path


def test_the_newest_finished_run_is_the_default_and_the_base_without_one(tmp_path: Path) -> None:
    assert resolve_checkpoint(None, tmp_path).path == str(SHIPPED_BASE)
    for number, name in enumerate(("old", "new")):
        final = run_directory(tmp_path / name, finished=True) / "final" / "config.json"
        os.utime(final, (number, number))
    run_directory(tmp_path / "unfinished", finished=False)
    assert resolve_checkpoint(None, tmp_path).path == str(tmp_path / "new" / "final")


def test_how_a_model_is_shown_videos_travels_with_it(tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run", finished=True)
    before = resolve_checkpoint(str(run))
    assert before.view == view_of(load_config(run / "config.json"))
    assert before.view.frames_per_video == 5
    write_view(run / "final", ModelView(frames_per_video=7))
    for name in (run, run / "final"):
        assert resolve_checkpoint(str(name)).view.frames_per_video == 7
    assert resolve_checkpoint(str(SHIPPED_BASE)).view.max_frame_px == 96
    (run / "final" / "scoring.json").write_text('{"frames_per_video": 0}')
    with pytest.raises(ConfigError, match=r"scoring\.json: frames_per_video: .*; correct it"):
        resolve_checkpoint(str(run))


def test_a_checkpoint_without_a_view_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "internvl"}')
    for checkpoint in (resolve_checkpoint(str(tmp_path)), resolve_checkpoint("OpenGVLab/InternVL3-8B-hf")):
        assert (checkpoint.view.frames_per_video, checkpoint.view.max_frame_px) == (6, 448)
        assert checkpoint.view_source.startswith("defaults")
    chosen = scoring_settings(resolve_checkpoint(str(tmp_path)), frames_per_video=3, decoder=None, seed=2)
    assert (chosen.frames_per_video, chosen.decoder, chosen.seed) == (3, "auto", 2)
    with pytest.raises(ConfigError, match="decoder: "):
        scoring_settings(resolve_checkpoint(str(tmp_path)), decoder="ffmpeg")


@pytest.mark.parametrize("name", ["./gone", "runs/gone", "gone", "a/b/c", "tests/gone"])
def test_a_checkpoint_that_is_not_there(name: str) -> None:
    with pytest.raises(ConfigError, match="no such folder, and no hub name"):
        resolve_checkpoint(name)


def test_a_run_that_is_not_finished_is_no_checkpoint(tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run", finished=False)
    with pytest.raises(ConfigError, match="finish it with `launch.py train --resume --run_dir="):
        resolve_checkpoint(str(run))
    with pytest.raises(ConfigError, match="neither a run"):
        resolve_checkpoint(str(tmp_path))


def test_models_of_the_same_sizes_have_different_fingerprints(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    weights = bytearray(3_000_000)
    (tmp_path / "model.safetensors").write_bytes(weights)
    before = fingerprint(str(tmp_path))
    assert fingerprint(str(tmp_path)) == before
    weights[-1] = 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    assert fingerprint(str(tmp_path)) != before


# Where scores go


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
        pytest.raises(OutputError, match=r"samples was 2 and is 4\. Go on with .*, or give another --out"),
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


# Many at once


def test_no_more_than_the_limit_at_once_and_none_lost() -> None:
    drawn = running = most = 0

    def items() -> Iterator[int]:
        nonlocal drawn
        for number in range(50):
            drawn += 1
            yield number

    async def call(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (number % 3))
        running -= 1
        return number

    async def work() -> list[int]:
        results = []
        async for result in concurrently(items(), call, 8):
            results.append(result)
            assert drawn <= len(results) + 8
        return results

    assert sorted(asyncio.run(work())) == list(range(50))
    assert most == 8


def test_the_first_error_ends_the_others() -> None:
    ended = []

    async def call(number: int) -> int:
        try:
            await asyncio.sleep(0 if number == 1 else 60)
        finally:
            ended.append(number)
        raise LookupError("one of them")

    async def items() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    async def work() -> None:
        with pytest.raises(LookupError, match="one of them"):
            async for _ in concurrently(items(), call, 3):
                pass

    asyncio.run(asyncio.wait_for(work(), 10))
    assert sorted(ended) == [0, 1, 2]


class QuickFleet:
    """Decoder and engines in one: the file `hangs` brings its task down, `bad` cannot be read, `odd` is
    refused by the engine."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    async def look_all(self, refs: Sequence[VideoRef]) -> tuple[Looks, Any]:
        await asyncio.sleep(0)
        self.batches.append(len(refs))
        if any("hangs" in ref.path for ref in refs):
            raise VideoError(refs[0].path, "not decoded within 60 s")
        infos = [
            VideoError(ref.path, "it is empty")
            if "bad" in ref.path
            else FrameInfo((0,), 1, (9, 9), (9, 9), "d")
            for ref in refs
        ]
        return Looks(list(infos), 0.001 * len(refs)), None

    async def sample_all(
        self, batch: Sequence[Sequence[SamplingRequest]], frames: Any, cost_tokens: int
    ) -> list[list[Group] | ValueError]:
        await asyncio.sleep(0)
        return [self._groups(requests) for requests in batch]

    def _groups(self, requests: Sequence[SamplingRequest]) -> list[Group] | ValueError:
        if any("odd" in request.ref.path for request in requests):
            return ValueError("the prompt is too long")
        answer = Completion([1], [0.0], "<think>a</think><answer>2.5</answer>", "stop", [0])
        return [Group(r.ref, [1], [answer] * len(r.seeds)) for r in requests]


def test_videos_share_calls_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many quick videos share a call; whatever happens to one, the others have their scores."""
    names = [f"{number}" for number in range(200)]
    names[60], names[120], names[180] = "hangs", "bad", "odd"
    scorer = Scorer(ScoringSettings(checkpoint="m", videos_in_flight=32))
    fleet: Any = QuickFleet()
    monkeypatch.setattr(scorer, "_decoder", fleet, raising=False)
    monkeypatch.setattr(scorer, "_fleet", fleet, raising=False)

    async def work() -> dict[str, ScoredVideo]:
        found = [s async for s in scorer.score((VideoRef(n, f"/{n}", 1) for n in names), samples=2)]
        assert len(found) == len(names)
        return {s.video_id: s for s in found}

    found = asyncio.run(work())
    assert found.keys() == set(names)
    reasons = {name: scored.failure for name, scored in found.items() if scored.failure}
    assert reasons == {
        "hangs": "not decoded within 60 s", "bad": "it is empty", "odd": "the prompt is too long",
    }  # fmt: skip
    assert all((s.score, s.samples) == (2.5, [2.5, 2.5]) for s in found.values() if not s.failure)
    assert max(fleet.batches) == 16
    assert len(fleet.batches) < 100


# A long video


@pytest.mark.parametrize(
    ("duration_s", "ends"), [(20, [10, 20]), (14.9, [14.9]), (15, [10, 15]), (3, [3]), (34.9, [10, 20, 34.9])]
)
def test_windows_cover_a_video_once(duration_s: float, ends: list[float]) -> None:
    found = windows(duration_s, 10)
    assert [end for _, end in found] == ends
    assert [start for start, _ in found] == [0, *ends[:-1]]


@pytest.mark.parametrize(
    ("duration_s", "message"),
    [
        (float("inf"), "a duration of inf s has no windows"),
        (float("nan"), "a duration of nan s has no windows"),
        (0.0, "a duration of 0 s has no windows"),
        (3.7e17, "more than 100,000: give longer"),
    ],
)
def test_a_duration_that_is_none_has_no_windows(duration_s: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        windows(duration_s, 10)


def test_a_timeline_is_drawn_whether_cells_are_text_or_not(tmp_path: Path) -> None:
    rows = [row_of(scored("v", window_s=(5.0 * n, 5.0 * n + 5)), "m") for n in range(3)]
    rows[1] |= {"score": None, "sample_mean": None, "sample_spread": None}
    texts = [{name: "" if cell is None else str(cell) for name, cell in row.items()} for row in rows]
    plot_timeline(rows, "v", tmp_path / "a.png")
    plot_timeline(texts, "v", tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert plot_path(Path("x/y.csv"), "/v.mp4") == Path("x/y.png")
    assert plot_path(None, "/z/v.mp4") == Path("v-timeline.png")


def test_a_timeline_is_of_one_video(videos: list[Path]) -> None:
    code, output, _ = launch("score", *map(str, videos[:2]), "--timeline", "5")
    assert code == 2
    assert "--timeline looks at one video, and 2 are given" in output
