"""The reliability of stated confidences, on clips whose answers are known."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.comparison_reliability import (
    Clip,
    Pairs,
    calibration_error,
    clips_of_table,
    pairs_of,
    reliability,
)


def test_only_clips_of_one_source_are_paired() -> None:
    clips = [
        Clip("a", "blur", 4.0, (4.0, 4.1)),
        Clip("a", "blur", 2.0, (2.0, 2.1)),
        Clip("a", "noise", 3.0, (1.0, 1.1)),
        Clip("a", "noise", 3.0, (3.0, 3.1)),
        Clip("b", "blur", 1.0, (5.0, 5.1)),
    ]
    pairs = pairs_of(clips, same_distortion=False)
    assert len(pairs.stated) == 5, "two clips of one MOS are no pair"
    assert pairs.right.tolist() == [1.0, 1.0, 1.0, 0.0, 1.0]
    assert (pairs.stated > 0.99).all()
    ladder = pairs_of(clips, same_distortion=True)
    assert ladder.right.tolist() == [1.0]


def test_neither_preferred_counts_half() -> None:
    pairs = pairs_of([Clip("a", "x", 1.0, (3.0, 3.5)), Clip("a", "x", 2.0, (3.0, 3.5))], False)
    assert (pairs.stated.tolist(), pairs.right.tolist()) == ([0.5], [0.5])


def test_the_error_is_zero_where_shares_are_as_stated() -> None:
    rng = np.random.default_rng(0)
    stated = rng.uniform(0.5, 1, 20_000)
    right = (rng.uniform(size=20_000) < stated).astype(float)
    assert calibration_error(stated, right) < 0.02
    assert calibration_error(np.full(10, 0.95), np.full(10, 0.0)) == pytest.approx(0.95)
    found = reliability(Pairs(stated[:300], right[:300], np.arange(300) % 9), samples=50)
    assert found.pairs == sum(n for _, _, n in found.bins) == 300
    assert found.right_interval[0] <= found.right <= found.right_interval[1]


def test_a_table_of_scores_is_joined_with_its_manifest(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(
        "video_id,path,mos,split,source,distortion\nx,x.mp4,4,test,s,blur\ny,y.mp4,2,train,s,blur\n"
    )
    rows = [{"video_id": name, "samples": [3.0, None, 3.5]} for name in "xy"]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert clips_of_table(tmp_path / "t.jsonl", tmp_path / "m.csv", ["test"]) == [
        Clip("s", "blur", 4.0, (3.0, 3.5))
    ]
