"""The demo set holds what it promises, and is rebuilt as it was labelled."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.distortions import FORMULA_KINDS, OOD_KINDS, TEMPORAL_KINDS, TRAIN_KINDS, distort
from data.frames import read_frames
from data.lossless import write_lossless
from data.manifest import read_manifest
from demo.clips.build import CLIPS, LABEL_TABLE, DemoSetError, make_clip, plan_clips, signature
from demo.clips.contents import CLIP_FRAMES, CLIP_PX, contents, pristine_clip
from demo.clips.labels import mos_by_formula, mos_from_vmaf, sampled_frames_show

TABLE = pd.read_csv(LABEL_TABLE, keep_default_na=False)


def test_enough_clips_of_enough_sources() -> None:
    clips = Counter(TABLE["split"])
    assert clips["train"] >= 400
    assert clips["test"] >= 120
    assert clips["ood"] >= 120
    for split in ("test", "ood"):
        rows = TABLE[TABLE["split"] == split]
        assert rows["source"].nunique() >= 8
        assert set(rows["content"]) <= {"photograph", "video"}, "evaluated on real content only"
        assert rows["headline"].sum() >= 120


def test_splits_share_no_content_and_ood_no_distortion() -> None:
    sources = {s: set(TABLE[TABLE["split"] == s]["source"]) for s in ("train", "test", "ood")}
    warm = {c.name for c in contents("warm")}
    assert not sources["train"] & sources["test"]
    assert not (sources["test"] | sources["ood"]) & warm
    kinds = {s: set(TABLE[TABLE["split"] == s]["distortion"]) for s in ("train", "test", "ood")}
    assert kinds["train"] == kinds["test"] == set(TRAIN_KINDS)
    assert kinds["ood"] == set(OOD_KINDS)
    assert not kinds["ood"] & kinds["train"]


def test_labels_spread_over_the_scale_and_say_what_made_them() -> None:
    assert TABLE["mos"].between(1, 5).all()
    for split in ("train", "test", "ood"):
        rows = TABLE[TABLE["split"] == split]
        assert np.histogram(rows["mos"], bins=[1, 2, 3, 4, 5.01])[0].min() >= 0.08 * len(rows)
    by_formula = TABLE["distortion"].isin(FORMULA_KINDS)
    assert (TABLE[by_formula]["label_by"] == "formula").all()
    assert (TABLE[~by_formula]["label_by"] == "vmaf").all()
    expected = [mos_by_formula(s) for s in TABLE[by_formula]["strength"]]
    assert TABLE[by_formula]["mos"].tolist() == pytest.approx(expected, abs=1e-3)
    expected = [mos_from_vmaf(v) for v in TABLE[~by_formula]["vmaf"]]
    assert TABLE[~by_formula]["mos"].tolist() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("kind", [*TRAIN_KINDS, *OOD_KINDS])
def test_a_distortion_is_deterministic_and_grows_with_its_strength(kind: str) -> None:
    content = next(c for c in contents("test") if c.name == "coffee")
    frames = pristine_clip(content, np.random.default_rng(5))

    def distorted(strength: float) -> np.ndarray:
        return distort(frames, kind, strength, np.random.default_rng(1))

    weak, strong = distorted(0.1), distorted(0.9)
    assert weak.shape == strong.shape == (CLIP_FRAMES, CLIP_PX, CLIP_PX, 3)
    assert np.array_equal(strong, distorted(0.9))
    error = [np.abs(x.astype(float) - frames).mean() for x in (weak, strong)]
    assert error[1] > error[0]
    if kind not in TEMPORAL_KINDS:
        assert error[1] > 1.5 * error[0]


def test_freezes_count_only_where_the_sampled_frames_show_them() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (CLIP_FRAMES, 8, 8, 3), dtype=np.uint8)
    frozen = frames.copy()
    frozen[5:] = frozen[4]
    assert sampled_frames_show(frames, frozen)
    assert not sampled_frames_show(frames, frames)
    still = np.repeat(frames[:1], CLIP_FRAMES, axis=0)
    assert not sampled_frames_show(still, still), "a picture that does not move shows no freeze"


def test_lossless_files_give_back_the_same_bytes(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (CLIP_FRAMES, CLIP_PX, CLIP_PX, 3), dtype=np.uint8)
    write_lossless(tmp_path / "clip.mp4", frames)
    assert np.array_equal(read_frames(tmp_path / "clip.mp4", CLIP_FRAMES), frames)


def test_built_clips_are_those_that_were_labelled() -> None:
    """Of the clips that set-up built: a sample of every kind, pixel by pixel."""
    videos = {v.video_id: v for v in read_manifest(CLIPS / "manifest.csv")}
    assert len(videos) == len(TABLE)
    labelled = dict(zip(TABLE["video_id"], TABLE["signature"], strict=True))
    for plan in list(plan_clips())[::61]:
        frames = make_clip(plan)[1]
        assert np.array_equal(read_frames(videos[plan.video_id].path, CLIP_FRAMES), frames)
        assert signature(frames) == labelled[plan.video_id]


def test_a_clip_that_comes_out_differently_is_refused(tmp_path: Path) -> None:
    from demo.clips.build import _build_clip

    plan = next(plan_clips())
    with pytest.raises(DemoSetError, match=rf"{plan.video_id}.*demo.clips.label_table"):
        _build_clip(tmp_path, {plan.video_id: "0.0/0.0/0.0/0.0"}, plan)
    assert list(tmp_path.rglob("*.mp4")) == []
