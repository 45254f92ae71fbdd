"""Scoring many videos at once, and a long one in windows."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from data.decode import Looks
from data.frames import FrameInfo
from data.records import Completion, Group, SamplingRequest, VideoRef
from data.video_file import VideoError
from evaluation.answers import ScoredVideo
from evaluation.score_rows import row_of
from evaluation.scorer import Scorer
from evaluation.settings import ScoringSettings
from evaluation.timeline import plot_path, plot_timeline, windows
from runtime.concurrently import concurrently
from tests.cli.test_command_line import launch
from tests.evaluation.test_score_rows import scored

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
        (float("inf"), "cannot cut a video of inf s into windows"),
        (float("nan"), "cannot cut a video of nan s into windows"),
        (0.0, "cannot cut a video of 0 s into windows"),
        (3.7e17, "more than 100,000 windows: give longer"),
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
    assert "--timeline takes one video, and 2 are given" in output
