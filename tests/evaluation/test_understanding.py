"""Questions about videos, from the prompt to the commands."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from data.frames import FrameInfo, decode_pair
from data.prompt import messages
from data.records import Completion, Group, SamplingRequest, VideoRef
from data.video_file import VideoError
from evaluation.quiz.asking import reference
from evaluation.quiz.folder import QuizFolder
from evaluation.quiz.item import QuizItem
from evaluation.quiz.results import ALL, QuizResults, as_json, results_of
from evaluation.quiz.run import read_quiz_job, run_quiz
from evaluation.settings import ScoringSettings
from runtime.errors import ConfigError
from tests.conftest import moving_frames

ROOT = Path(__file__).resolve().parents[2]
CLIPS = ROOT / "demo" / "built"
BASE = ROOT / "demo" / "tiny-internvl"


def test_the_rating_prompt_is_pinned_to_the_byte() -> None:
    """The learner compares its prompts with the engine's token ids, and checkpoints were trained on these."""
    rating = (
        "You are doing the video quality assessment task. Rate the overall quality of this video with a "
        "float from 1 (very poor) to 5 (excellent), rounded to two decimals. First think in <think> "
        "</think> tags, then give only the rating in <answer> </answer> tags."
    )
    content = [
        {"type": "text", "text": "Frame1: "},
        {"type": "image"},
        {"type": "text", "text": "Frame2: "},
        {"type": "image"},
        {"type": "text", "text": rating},
    ]
    assert messages(2) == [{"role": "user", "content": content}]


def test_the_prompt_of_a_pair() -> None:
    (chat,) = messages(4, "Which is sharper?", n_videos=2)
    assert [part.get("text", "image") for part in chat["content"]] == [
        "Video 1 Frame1: ", "image", "Video 1 Frame2: ", "image",
        "Video 2 Frame1: ", "image", "Video 2 Frame2: ", "image",
        "You are doing the video quality assessment task. Which is sharper?",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="3 frames"):
        messages(3, "Which?", n_videos=2)
    with pytest.raises(ValueError, match="the placeholder of a frame"):
        messages(1, "What is <IMG_CONTEXT>?")


def test_a_pair_shares_the_frames(videos: list[Path], tmp_path: Path) -> None:
    from data.lossless import write_lossless

    wide = tmp_path / "wide.mp4"
    write_lossless(wide, moving_frames(8, seed=9)[:, :28])
    ref = reference("pair", (str(videos[0]), str(wide)), frames_per_video=5)
    assert (ref.n_frames, ref.n_videos) == (4, 2)
    frames, info = decode_pair(ref.path, str(ref.beside), ref.n_frames)
    assert frames.shape == (4, 56, 56, 3)
    assert np.array_equal(frames[:2], moving_frames(8, seed=0)[[2, 6]])
    assert np.array_equal(frames[2:, 14:42], moving_frames(8, seed=9)[[2, 6], :28])
    assert not frames[2:, :14].any()
    assert not frames[2:, 42:].any()
    assert info.beside is not None
    assert info.beside.px == (28, 56)
    with pytest.raises(ConfigError, match="a pair of videos needs 2 frames"):
        reference("pair", ("/a", "/b"), frames_per_video=1)


def row(item_id: str, text: str = "", failure: str = "") -> dict[str, Any]:
    return {"id": item_id, "text": text, "failure": failure}


def test_the_folder_goes_on_after_a_kill_and_refuses_other_settings(tmp_path: Path) -> None:
    with QuizFolder(tmp_path, {"set": "s"}) as folder:
        folder.add_prediction(row("1", failure="it failed"))
        folder.add_prediction(row("1", "B"))
        folder.add_prediction(row("2", "Ü"))
        with pytest.raises(ConfigError, match="another process"), QuizFolder(tmp_path, {"set": "s"}):
            pass
    with (tmp_path / "predictions.jsonl").open("a") as file:
        file.write('{"id": "3", "te')
    with QuizFolder(tmp_path, {"set": "s"}) as folder:
        assert folder.predictions == {"1": row("1", "B"), "2": row("2", "Ü")}
        folder.add_prediction(row("3", "A"))
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == 4
    with pytest.raises(ConfigError, match="set was 's' and is 't'"), QuizFolder(tmp_path, {"set": "t"}):
        pass


def test_results_leave_open_questions_to_the_judge() -> None:
    items = [
        QuizItem("1", ("/a",), "?", ("a", "b"), "A", "choice", "yes-or-no"),
        QuizItem("2", ("/a",), "Why?", (), "", "judged", "open-ended", reference="Fog."),
        QuizItem("3", ("/gone",), "?", ("a", "b"), "A", "choice", "yes-or-no"),
    ]
    rows = {"1": row("1", "A"), "2": row("2", "It is foggy"), "3": row("3", failure="no such file")}
    results = results_of(items, rows, {})
    assert (results.accuracy[ALL].n, results.accuracy[ALL].right) == (2, 1)
    assert results.unanswered == [("3", "no such file")]
    assert results.open_answers.mean is None
    judged = results_of(items, rows, {"2": {"id": "2", "judge": "m", "grades": [2, 1, 2, 2, 2]}})
    assert judged.open_answers.mean == pytest.approx(0.9)
    assert json.loads(json.dumps(as_json(judged)))["open"]["judges"] == ["m"]


class Killed(Exception):
    pass


class FakeScorer:
    """Answers "A" about every video that is there; the kill comes with the third question."""

    replicas = 1
    asked: ClassVar[list[SamplingRequest]] = []

    def __init__(self, settings: ScoringSettings) -> None:
        self.settings = settings

    async def __aenter__(self) -> "FakeScorer":
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    async def sample(
        self, ref: VideoRef, requests: Sequence[SamplingRequest]
    ) -> tuple[FrameInfo, list[Group]]:
        self.asked.extend(requests)
        if len(self.asked) == 3:
            raise Killed
        if not Path(ref.path).exists():
            raise VideoError(ref.path, "No such file")
        completion = Completion([1], [0.0], "<answer>A</answer>", "stop", [0])
        return FrameInfo((0,), 1, (1, 1), (1, 1), "none"), [Group(ref, [1], [completion])]


def test_the_same_command_asks_what_was_not_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.scorer.Scorer", FakeScorer)
    (tmp_path / "a.mp4").touch()
    entries = [{"img_path": name, "level": 5} for name in ("a.mp4", "gone.mp4", "a.mp4", "a.mp4")]
    file = tmp_path / "levels.json"
    file.write_text(json.dumps(entries))

    def quiz() -> QuizResults:
        job = read_quiz_job("vqa2-levels", [file], tmp_path, tmp_path / "out", str(BASE), videos_in_flight=1)
        return run_quiz(job, None, lambda what: nullcontext(lambda done, total: None))

    with pytest.raises(Killed):
        quiz()
    rows = map(json.loads, (tmp_path / "out" / "predictions.jsonl").read_text().splitlines())
    assert [(row["id"], row["right"], bool(row["failure"])) for row in rows] == [
        ("levels.json:1", True, False), ("levels.json:2", False, True),
    ]  # fmt: skip
    results = quiz()
    assert len(FakeScorer.asked) == 3 + 3, "two that were left, and the one that failed once more"
    figures = results.accuracy[ALL]
    assert (figures.n, figures.right, figures.unanswered) == (4, 3, 1)
    assert results.unanswered == [("levels.json:2", f"{tmp_path / 'gone.mp4'}: No such file")]
    assert "A. excellent\nB. good" in str(FakeScorer.asked[0].question)
    assert {request.temperature for request in FakeScorer.asked} == {0.0}


def launch(*arguments: str | Path) -> tuple[int, str]:
    """(exit code, output) of a command."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240, cwd=ROOT,
        env=os.environ | {"COLUMNS": "140"},
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder with two demo clips, a.mp4 and b.mp4, and broken.mp4."""
    folder = tmp_path / "clips"
    folder.mkdir()
    found = sorted(CLIPS.rglob("*.mp4"))[:2]
    assert len(found) == 2, "make demo-set builds the clips"
    for path, name in zip(found, ("a.mp4", "b.mp4"), strict=True):
        shutil.copy(path, folder / name)
    (folder / "broken.mp4").write_text("no video")
    return folder


@pytest.mark.slow
@pytest.mark.engine
def test_a_free_question(clips: Path) -> None:
    """The tiny base knows no words but its own: what is tested is the way there and back."""
    clip = clips / "a.mp4"
    code, output = launch("ask", clip, "Is it sharp?", "--checkpoint", BASE, "--json", "--max-tokens", "8")
    assert code == 0, output
    said = json.loads(output.splitlines()[-1])
    assert (said["videos"], said["question"]) == ([str(clip)], "Is it sharp?")
    assert said["checkpoint"] == "demo/tiny-internvl"
    assert len(said["frames"]["indices"]) == 4
    assert said["frames"]["beside"] is None
    assert said["finish_reason"] in ("stop", "length")
    assert said["text"]


@pytest.mark.slow
@pytest.mark.engine
def test_a_quiz_from_its_file_to_the_table(clips: Path, tmp_path: Path) -> None:
    """Single videos, a pair, an open question, a broken video; then one question less and the same --out."""

    def entry(video: str, question_type: str = "what/how", **changes: Any) -> dict[str, Any]:
        return {
            "video_name": video, "question": "Sharp?", "answers": ["Good", "Bad"], "video_type": "CG",
            "question_type": question_type, "context": "Global", "correct_choice": "A",
        } | changes  # fmt: skip

    questions = [
        entry("a.mp4"), entry("b.mp4", "yes-or-no", correct_choice="B"), entry("a.mp4", concern="Temporal"),
        entry("a.mp4_cat_b.mp4.mp4", context="Compare"),
        entry("b.mp4", "open_ended", answers="It is sharp.", correct_choice=""), entry("broken.mp4"),
    ]  # fmt: skip
    file, out = tmp_path / "six.json", tmp_path / "out"
    file.write_text(json.dumps(questions))
    command = ("quiz", "q-bench-video", file, "--videos", clips, "--out", out, "--checkpoint", BASE,
               "--max-tokens", "8")  # fmt: skip
    code, output = launch(*command)
    assert code == 0, output
    assert "question type: what/how" in output
    results = json.loads((out / "results.json").read_text())
    by_kind = {(row["facet"], row["value"]): row for row in results["accuracy"]}
    total = by_kind["all", ""]
    assert (total["n"], total["unanswered"], total["chance"]) == (5, 1, 0.5)
    assert by_kind["context", "Compare"]["n"] == by_kind["concern", "Temporal"]["n"] == 1
    (failed,) = results["unanswered"]
    assert failed["id"] == "six.json:6"
    assert "not a readable video" in failed["reason"], "the others, the pair among them, were answered"
    (opened,) = map(json.loads, (out / "open_answers.jsonl").read_text().splitlines())
    assert (opened["reference"], opened["question"]) == ("It is sharp.", "Sharp?")
    assert opened["answer"]
    assert len((out / "predictions.jsonl").read_text().splitlines()) == 6

    file.write_text(json.dumps(questions[:5]))
    code, output = launch(*command)
    assert code == 2
    assert "holds results of other settings: files was" in output
