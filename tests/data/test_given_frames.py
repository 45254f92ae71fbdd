"""Frames that a program hands over: scored as the file that holds them would be."""

import asyncio
import re
import textwrap
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch

from data.frames import decode_video
from data.given_frames import as_arrays, decode_array
from data.records import Completion, Group, SamplingRequest
from evaluation.answers import ScoredVideo
from evaluation.models import SHIPPED_BASE, resolve_checkpoint, scoring_settings
from evaluation.scorer import Scorer, score_videos
from evaluation.settings import ScoringSettings
from tests.conftest import moving_frames

ROOT = Path(__file__).resolve().parents[2]
SECTION = "### Frames in memory"


def test_arrays_tensors_and_batches_are_videos() -> None:
    frames = moving_frames(5, px=16)
    tensor = torch.from_numpy(frames)
    for given in (frames, tensor, tensor.requires_grad_(False), frames[::-1][::-1]):
        (array,) = as_arrays(given)
        assert np.array_equal(array, frames)
    batch = torch.stack([tensor, tensor.flip(0)])
    assert [array.tolist() for array in as_arrays(batch)] == [frames.tolist(), frames[::-1].tolist()]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((4, 8, 8, 3)), r"frames are float64: pass uint8"),
        (torch.zeros(4, 8, 8, 3), r"frames are float32: pass uint8"),
        (np.zeros((4, 3, 8, 8), np.uint8), r"\[4, 3, 8, 8\]: pass \[T, H, W, 3\] .* channels last"),
        (np.zeros((8, 8, 3), np.uint8), r"the shape \[8, 8, 3\]"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"the shape \[0, 8, 8, 3\]"),
        (torch.zeros(2, 4, 8, 8, 4, dtype=torch.uint8), r"the shape \[2, 4, 8, 8, 4\]"),
    ],
)
def test_other_arrays_are_refused_with_what_would_make_them_right(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_arrays(given)


@pytest.mark.parametrize("max_px", [None, 20])
def test_the_same_frames_are_chosen_and_shrunk_as_of_a_file(videos: list[Path], max_px: int | None) -> None:
    of_file, looked = decode_video(videos[1], 3, max_px)
    given, info = decode_array(moving_frames(8, seed=1), 3, max_px)
    assert np.array_equal(given, of_file)
    assert (info.indices, info.n_total, info.source_px, info.px) == (
        looked.indices, looked.n_total, looked.source_px, looked.px,
    )  # fmt: skip


class Echo:
    """An engine whose score is the first pixel that it was shown."""

    async def sample_all(
        self, batch: Sequence[Sequence[SamplingRequest]], frames: ray.ObjectRef, cost_tokens: int
    ) -> list[list[Group]]:
        (shown,) = await frames
        answer = Completion([1], [0.0], f"<answer>{1 + shown[0, 0, 0, 0] / 50}</answer>", "stop", [0])
        return [[Group(r.ref, [1], [answer] * len(r.seeds)) for r in requests] for requests in batch]


@pytest.fixture
def scorer(local_ray: None, monkeypatch: pytest.MonkeyPatch) -> Scorer:
    scorer = Scorer(ScoringSettings(checkpoint="m", frames_per_video=2, videos_in_flight=4))
    monkeypatch.setattr(scorer, "_fleet", Echo(), raising=False)
    return scorer


def plain(value: int) -> np.ndarray:
    return np.full((3, 8, 8, 3), value, dtype=np.uint8)


async def scores(scorer: Scorer, videos: Any) -> dict[int, float | None]:
    return {int(s.video_id): s.score async for s in scorer.score_arrays(videos, samples=1)}


def test_each_video_of_an_iterable_has_its_number(scorer: Scorer) -> None:
    mixed = [plain(0), torch.from_numpy(np.stack([plain(50), plain(100)])), plain(150)]
    assert asyncio.run(scores(scorer, mixed)) == {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0}

    async def coming() -> AsyncIterator[np.ndarray]:
        for video in mixed:
            yield video  # type: ignore[misc]

    assert asyncio.run(scores(scorer, coming())) == {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0}


def test_an_endless_generator_is_drawn_from_as_there_is_room(scorer: Scorer) -> None:
    drawn = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal drawn
        while True:
            drawn += 1
            yield plain(0)

    async def first(count: int) -> None:
        done = 0
        async for _ in scorer.score_arrays(endless()):
            done += 1
            assert drawn <= done + 4 + 2
            if done == count:
                return

    asyncio.run(first(30))


def test_what_is_wrong_with_a_video_ends_the_iteration(scorer: Scorer) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield plain(0)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        asyncio.run(scores(scorer, broken()))
    with pytest.raises(ValueError, match="pass uint8"):
        asyncio.run(scores(scorer, [plain(0) / 255]))


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(900)
def test_the_snippets_of_the_documentation(local_ray: None, videos: list[Path], capsys: Any) -> None:
    """Run as they stand; each score is that of the file with these frames."""
    text = (ROOT / "docs" / "scoring.md").read_text().split(SECTION)[1].split("\n## ")[0]
    calls, kept = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    clips = [moving_frames(8, seed=number) for number in range(3)]
    settings = scoring_settings(resolve_checkpoint(str(SHIPPED_BASE)))
    loader: Any = torch.utils.data.DataLoader(clips, batch_size=2)  # type: ignore[arg-type]
    names: dict[str, Any] = {
        "array": clips[0], "dataloader": loader, "found": [],
        "Scorer": Scorer, "settings": settings,
    }  # fmt: skip
    exec(calls, names)
    shown = capsys.readouterr().out.split()
    body = textwrap.indent(kept.replace("...", "found.append(video)"), "    ")
    exec(f"async def snippet():\n{body}", names)
    asyncio.run(names["snippet"]())
    found: list[ScoredVideo] = sorted(names["found"], key=lambda video: video.video_id)
    assert [video.video_id for video in found] == ["0", "1", "2"]
    assert all(len(video.samples) == 4 for video in found)
    of_files = score_videos(videos[:3], str(SHIPPED_BASE))
    assert [video.text for video in found] == [video.text for video in of_files]
    assert shown == [str(of_files[0].score), *(w for v in found for w in (v.video_id, str(v.score)))]
