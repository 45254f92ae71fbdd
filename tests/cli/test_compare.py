"""`launch.py compare` with a scorer that starts no engine."""

import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import evaluation.scorer
from data.frames import FrameInfo
from data.records import VideoRef
from evaluation.answers import ScoredVideo, failed_video
from evaluation.models import SHIPPED_BASE
from launch import app
from runtime.errors import ConfigError
from tests.cli.test_command_line import SECONDS, launch

ASKED: list[str] = []
"""The files that the fake scorer was asked about, in order."""


class FakeScorer:
    """Scores a file by its name: `0-...` is best. `cut` fails, `mute` does not parse. After `dies_after`
    videos it raises."""

    dies_after = 99

    def __init__(self, settings: Any) -> None:
        pass

    async def __aenter__(self) -> "FakeScorer":
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    async def score(self, refs: Iterable[VideoRef], samples: int) -> AsyncIterator[ScoredVideo]:
        for number, ref in enumerate(refs):
            if number == self.dies_after:
                raise KeyboardInterrupt
            ASKED.append(ref.path)
            yield self._scored(ref, samples)

    def _scored(self, ref: VideoRef, samples: int) -> ScoredVideo:
        name = Path(ref.path)
        if "cut" in name.name:
            return failed_video(ref, "not a readable video")
        best = 4.0 if "good" in ref.path else 3.0
        drawn: list[float | None] = [best + 0.1 * (number % 2) for number in range(samples)]
        if "mute" in name.name:
            drawn = [None] * samples
        info = FrameInfo((0,), 8, (56, 56), (56, 56), "d")
        return ScoredVideo(
            ref.video_id, ref.path, None, best, f"trace of {name.name}", "", drawn, [""] * samples, info
        )


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    ASKED.clear()
    monkeypatch.setattr(FakeScorer, "dies_after", 99)
    monkeypatch.setattr(evaluation.scorer, "Scorer", FakeScorer)


def compare(*arguments: str | Path) -> Result:
    return CliRunner().invoke(
        app, ["compare", *map(str, arguments), "--checkpoint", str(SHIPPED_BASE)], catch_exceptions=True
    )


def as_json(result: Result) -> dict[str, Any]:
    return json.loads(result.stdout)


@pytest.fixture
def clips(videos: list[Path], tmp_path: Path) -> Path:
    """Two real files, `good.mp4` and `plain.mp4`, and one that is no video."""
    for name, video in zip(("good.mp4", "plain.mp4"), videos, strict=False):
        (tmp_path / name).write_bytes(video.read_bytes())
    (tmp_path / "broken.mp4").write_text("no video")
    return tmp_path


def test_two_files(clips: Path) -> None:
    picture = clips / "new folder" / "out.png"
    done = compare(clips / "plain.mp4", clips / "good.mp4", "--json", "--picture", picture)
    assert done.exit_code == 0, done.output
    found = as_json(done)
    assert found["order"] == [str(clips / "good.mp4"), str(clips / "plain.mp4")]
    (pair,) = found["pairs"]
    assert pair["difference"] == -1.0
    assert pair["confidence"] < 0.01
    assert "not calibrated" in found["confidence_note"]
    assert [video["trace"] for video in found["contents"][0]["videos"]] == [
        "trace of plain.mp4", "trace of good.mp4",
    ]  # fmt: skip
    with Image.open(picture) as drawn:
        assert drawn.width > 800


def test_the_text_says_which_and_why(clips: Path) -> None:
    done = compare(clips / "plain.mp4", clips / "good.mp4", "--samples", "2")
    text = " ".join(done.output.split())
    assert f"{clips / 'good.mp4'} is rated better than {clips / 'plain.mp4'} by 1.00" in text
    assert "(not calibrated)" in text
    assert "4.05 ± 0.07" in text


def test_an_unreadable_file_ends_a_comparison_of_two_before_an_engine(clips: Path) -> None:
    done = compare(clips / "good.mp4", clips / "broken.mp4")
    assert isinstance(done.exception, ConfigError)
    assert "broken.mp4" in str(done.exception)
    assert "two videos that can be read" in str(done.exception)
    assert ASKED == []


def test_an_unreadable_file_of_three_costs_its_pairs(clips: Path) -> None:
    done = compare(clips / "good.mp4", clips / "broken.mp4", clips / "plain.mp4", "--json")
    assert done.exit_code == 1
    found = as_json(done)
    assert [(p["first"], p["second"]) for p in found["pairs"]] == [
        (str(clips / "good.mp4"), str(clips / "plain.mp4"))
    ]
    (failed,) = found["failed"]
    assert failed["video"] == str(clips / "broken.mp4")
    assert len(ASKED) == 2


def in_folders(folder: Path, *names: str) -> tuple[Path, Path]:
    """The fake scorer opens no file: empty ones do."""
    for version in ("good", "plain"):
        (folder / version).mkdir()
        for name in names:
            (folder / version / name).touch()
    return folder / "good", folder / "plain"


def test_folders_are_compared_pairwise(tmp_path: Path) -> None:
    good, plain = in_folders(tmp_path, "a.mp4", "b.mp4", "c.mp4", "cut.mp4", "mute.mp4")
    (good / "alone.mp4").touch()
    picture = tmp_path / "differences.png"
    done = compare(good, plain, "--json", "--picture", picture)
    assert done.exit_code == 1, "two contents have no pair"
    found = as_json(done)
    (of,) = found["folders"]
    assert (of["pairs"], of["first_better"], of["second_better"]) == (3, 3, 0)
    assert of["sign_test_p"] == 0.25
    assert (of["mean_difference"], of["low"], of["high"]) == (1.0, 1.0, 1.0)
    assert found["without_partner"] == [str(good / "alone.mp4")]
    assert {Path(f["video"]).name: f["failure"] for f in found["failed"]} == {
        "cut.mp4": "not a readable video", "mute.mp4": "0 of its 8 sampled answers parse, 2 are needed",
    }  # fmt: skip
    assert picture.stat().st_size > 5000
    assert str(good / "alone.mp4") not in ASKED
    text = " ".join(compare(good, plain).output.split())
    assert "3 pairs: 3 better, 0 worse, 0 equal, sign test p = 0.25" in text
    assert "mean difference +1.000 (95 % interval +1.000 to +1.000)" in text


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_an_interrupted_comparison_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    folders = in_folders(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    out = tmp_path / f"scores{suffix}"
    monkeypatch.setattr(FakeScorer, "dies_after", 4)
    compare(*folders, "--out", out, "--json")
    assert len(ASKED) == 4
    monkeypatch.setattr(FakeScorer, "dies_after", 99)
    resumed = compare(*folders, "--out", out, "--json")
    assert resumed.exit_code == 0, resumed.output
    assert len(ASKED) == len(set(ASKED)) == 6
    again = compare(*folders, "--out", out, "--json")
    assert len(ASKED) == 6
    assert as_json(again) == as_json(resumed)
    other = compare(*folders, "--out", out, "--samples", "4")
    assert "samples was 8 and is 4" in str(other.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one.mp4"], "compare takes two or more versions, and 1 is given"),
        (["README.md", "gone.mp4"], "gone.mp4: no such file or folder"),
        (["README.md", "LICENSE"], "a comparison needs two videos that can be read"),
        (["README.md", "LICENSE", "--picture", "x.jpg"], "--picture x.jpg: give a name that ends in .png"),
    ],
)
def test_bad_input_is_named_before_an_engine(arguments: list[str], message: str) -> None:
    code, output, seconds = launch("compare", *arguments)
    assert code == 2
    assert message in output
    assert "Traceback" not in output
    assert seconds < SECONDS
