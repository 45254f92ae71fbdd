"""Scores out of real engines: they depend on the video alone, and a killed command resumes."""

import asyncio
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from data.manifest import read_manifest
from data.records import VideoRef
from evaluation.answers import ScoredVideo
from evaluation.models import SHIPPED_BASE, resolve_checkpoint, scoring_settings
from evaluation.scorer import Scorer, score_videos
from evaluation.settings import ScoringSettings
from tests.runs import nothing_left

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "demo" / "built" / "manifest.csv"
N_CLIPS, AGREEING = 100, 0.99

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]


def clips(count: int) -> list[str]:
    return [video.path for video in read_manifest(MANIFEST) if video.split == "test"][:count]


def settings(**more: object) -> ScoringSettings:
    return scoring_settings(resolve_checkpoint(str(SHIPPED_BASE)), **more)


def texts(scored: list[ScoredVideo]) -> dict[str, str]:
    assert not [s.failure for s in scored if s.failure]
    return {s.video_id: s.text for s in scored}


def agreement(one: dict[str, str], other: dict[str, str]) -> float:
    assert one.keys() == other.keys()
    return sum(one[video_id] == other[video_id] for video_id in one) / len(one)


async def in_two_orders(chosen: ScoringSettings) -> tuple[dict[str, str], dict[str, str]]:
    """Texts in one order, and in the opposite one among sampled answers, which makes other batches."""
    refs = [VideoRef(path, path, chosen.frames_per_video) for path in clips(N_CLIPS)]
    async with Scorer(chosen) as scorer:
        forwards = [s async for s in scorer.score(refs)]
        backwards = [s async for s in scorer.score(reversed(refs), samples=2)]
    assert all(len(s.samples) == 2 for s in backwards)
    return texts(forwards), texts(backwards)


@pytest.mark.slow
def test_a_score_depends_on_no_other_video(local_ray: None) -> None:
    forwards, backwards = asyncio.run(in_two_orders(settings()))
    assert len(set(forwards.values())) > N_CLIPS / 4
    assert agreement(forwards, backwards) >= AGREEING


@pytest.mark.slow
def test_exact_is_exact(local_ray: None) -> None:
    forwards, backwards = asyncio.run(in_two_orders(settings(exact=True)))
    assert forwards == backwards


@pytest.mark.slow
def test_two_workers_say_what_one_says_in_a_notebook(local_ray: None) -> None:
    """A notebook's cell runs inside an event loop."""
    paths = clips(N_CLIPS)

    async def cell(replicas: int) -> list[ScoredVideo]:
        return score_videos(paths, str(SHIPPED_BASE), samples=1, replicas=replicas)

    alone, together = (asyncio.run(cell(replicas)) for replicas in (1, 2))
    assert [s.path for s in alone] == paths
    assert agreement(texts(alone), texts(together)) >= AGREEING


@pytest.mark.slow
def test_standard_output_holds_json_alone(videos: list[Path], tmp_path: Path) -> None:
    """A good video and a broken one, as another program would ask."""
    (tmp_path / "broken.mp4").write_text("no video")
    done = subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), "score", str(videos[0]), str(tmp_path / "broken.mp4"),
         "--samples", "3", "--json", "--checkpoint", str(SHIPPED_BASE)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    rows = {Path(row["path"]).name: row for row in map(json.loads, done.stdout.splitlines())}
    good, broken = rows[videos[0].name], rows["broken.mp4"]
    assert 1 <= good["score"] <= 5
    assert len(good["samples"]) == 3
    assert (good["frames"], good["frames_in_all"], good["frame_size"]) == ([1, 3, 5, 7], 8, "56x56")
    assert good["checkpoint"] == "demo/tiny-internvl"
    assert broken["score"] is None
    assert "not a readable video" in broken["failure"]
    assert "Unhandled" not in done.stderr


def test_a_folder_as_it_comes(tmp_path: Path) -> None:
    """Awkward names, sub-folders, other files and broken ones; the command again scores what was added."""
    folder, out = tmp_path / "holiday", tmp_path / "scores.csv"
    good = ["a clip, with spaces.mp4", "sub folder/Überblick видео.mp4", "sub folder/deeper/UPPER.MP4"]
    bad = {"sub folder/broken.mp4": "not a readable video", "empty.mov": "the file is empty"}
    (folder / "sub folder" / "deeper").mkdir(parents=True)
    for name, clip in zip(good, clips(3), strict=True):
        shutil.copy(clip, folder / name)
    (folder / "sub folder" / "broken.mp4").write_text("no video")
    (folder / "empty.mov").touch()
    (folder / "notes.txt").write_text("not a video")

    def score() -> tuple[str, dict[str, dict[str, str]]]:
        done = subprocess.run(
            [sys.executable, str(ROOT / "launch.py"), "score", str(folder),
             "--out", str(out), "--checkpoint", str(SHIPPED_BASE)],
            capture_output=True, text=True, timeout=200,
        )  # fmt: skip
        assert done.returncode == 1, done.stdout + done.stderr
        rows = list(csv.DictReader(out.open(newline="", encoding="utf-8")))
        by_name = {str(Path(row["path"]).relative_to(folder)): row for row in rows}
        assert len(by_name) == len(rows), "a row for each video"
        return done.stdout, by_name

    said, rows = score()
    assert "5 videos, other files ignored: 1" in said
    assert rows.keys() == {*good, *bad}
    for name, reason in bad.items():
        assert reason in rows[name]["failure"]
        assert Path(name).name in said
    assert all(1 <= float(rows[name]["score"]) <= 5 for name in good)
    shutil.copy(clips(4)[3], folder / "added.mp4")
    said, more = score()
    assert more.keys() == {*good, *bad, "added.mp4"}
    assert all(more[name] == rows[name] for name in good), "what is scored is left alone"


@pytest.mark.slow
def test_killed_and_resumed(tmp_path: Path) -> None:
    """kill -9 in mid-run: the same command resumes, and every clip has one row."""
    out = tmp_path / "scores.csv"
    command = [
        sys.executable, str(ROOT / "launch.py"), "score", str(ROOT / "demo" / "built" / "test"),
        "--out", str(out), "--checkpoint", str(SHIPPED_BASE),
    ]  # fmt: skip
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 200
        while (not out.exists() or out.read_bytes().count(b"\r\n") < 20) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert nothing_left(process.pid) == []
    before = out.read_bytes()
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert out.read_bytes().startswith(before[: before.rfind(b"\r\n")])
    rows = Counter(row["path"] for row in csv.DictReader(out.open(newline="")))
    assert set(rows) == {str(path) for path in (ROOT / "demo" / "built" / "test").glob("*.mp4")}
    assert set(rows.values()) == {1}
    assert before.count(b"\r\n") < len(rows), "it was killed too late to show anything"
