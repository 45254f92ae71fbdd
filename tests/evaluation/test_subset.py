"""The videos that are evaluated while training, and their frames that are kept."""

import asyncio
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.frames import FrameInfo
from data.records import Video, VideoRef
from evaluation.kept_frames import KeptFrames, frame_bytes
from evaluation.subset import shares, spread_subset


def split_of(count: int, sets: int = 1, sources: int = 7, seed: int = 0) -> list[Video]:
    dice = random.Random(seed)
    return [
        Video(
            f"v{i}", f"/v{i}.mp4", round(dice.betavariate(5, 2) * 4 + 1, 1), "test",
            label_set=f"set{i % sets}", source=f"s{dice.randrange(sources)}", headline=i % 10 != 9,
        )
        for i in range(count)
    ]  # fmt: skip


@settings(deadline=None)
@given(count=st.integers(1, 400), places=st.integers(0, 500), sets=st.integers(1, 5), seed=st.integers(0, 99))
def test_a_subset_has_its_size_and_does_not_depend_on_the_order(
    count: int, places: int, sets: int, seed: int
) -> None:
    videos = split_of(count, sets, seed=seed)
    chosen = spread_subset(videos, places, seed)
    if places == 0 or places >= count:
        assert chosen == videos
        return
    counting = [v for v in videos if v.headline]
    assert len(chosen) == len({v.video_id for v in chosen}) == min(places, len(counting))
    assert all(v.headline for v in chosen)
    assert chosen == [v for v in videos if v in chosen]
    shuffled = list(videos)
    random.Random(seed).shuffle(shuffled)
    assert {v.video_id for v in spread_subset(shuffled, places, seed)} == {v.video_id for v in chosen}
    for name, members in Counter(v.label_set for v in counting).items():
        share = len(chosen) * members / len(counting)
        assert abs(sum(v.label_set == name for v in chosen) - share) < 1


def test_a_subset_is_spread_over_scores_and_sources_as_the_split_is() -> None:
    videos = split_of(7182, sources=400)
    counting = [v for v in videos if v.headline]
    chosen = spread_subset(videos, 512, seed=3)
    parts = np.quantile([v.mos for v in counting], [0.1, 0.25, 0.5, 0.75, 0.9])
    assert np.allclose(np.quantile([v.mos for v in chosen], [0.1, 0.25, 0.5, 0.75, 0.9]), parts, atol=0.1)
    most = max(Counter(v.source for v in chosen).values())
    assert most <= 2, "512 of 400 sources: none more than twice, but for parts that hold no other"
    assert spread_subset(videos, 512, seed=3) == chosen
    assert spread_subset(videos, 512, seed=4) != chosen


@given(sizes=st.dictionaries(st.text(max_size=3), st.integers(1, 99), min_size=1, max_size=6), data=st.data())
def test_shares_add_up_and_fit(sizes: dict[str, int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, sum(sizes.values())))
    places = shares(sizes, count)
    assert sum(places.values()) == count
    assert all(0 <= places[name] <= size for name, size in sizes.items())


INFO = FrameInfo((0, 5), 10, (20, 30), (10, 15), "none")


class CountingDecoder:
    def __init__(self) -> None:
        self.looks: Counter[str] = Counter()

    async def look(self, ref: VideoRef) -> tuple[FrameInfo, Any]:
        self.looks[ref.video_id] += 1
        return INFO, object()


def test_frames_are_kept_within_the_budget_and_only_of_videos_that_come_again() -> None:
    assert frame_bytes(INFO) == 2 * 10 * 15 * 3
    decoder = CountingDecoder()
    frames = KeptFrames(decoder, {"a", "b", "c"}, budget_bytes=2 * frame_bytes(INFO))
    refs = {name: VideoRef(name, f"/{name}", 2) for name in "xabc"}

    async def evaluate() -> list[object]:
        return [(await frames.look(ref))[1] for ref in refs.values()]

    first, second = asyncio.run(evaluate()), asyncio.run(evaluate())
    assert decoder.looks == {"x": 2, "a": 1, "b": 1, "c": 2}
    assert (first[1], first[2]) == (second[1], second[2])
    frames.forget(refs["a"])
    assert refs["a"] not in frames
    asyncio.run(evaluate())
    assert decoder.looks["a"] == 2
    asyncio.run(evaluate())
    assert decoder.looks == {"x": 4, "a": 2, "b": 1, "c": 4}, "what is forgotten makes room"


@pytest.mark.parametrize("budget_bytes", [0, frame_bytes(INFO) - 1])
def test_nothing_is_kept_without_room(budget_bytes: int) -> None:
    decoder = CountingDecoder()
    frames = KeptFrames(decoder, {"a"}, budget_bytes)
    for _ in range(2):
        asyncio.run(frames.look(VideoRef("a", "/a", 2)))
    assert decoder.looks == {"a": 2}
