"""Rebuild the demo's clips from the committed label table.

Clips are stored as lossless H.264 in RGB, so that decoding returns exactly the pixels that were labelled.
Clips whose content, distortion, seed or signature has changed are rebuilt; other existing clips are kept.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from data.distortions import OOD_KINDS, TEMPORAL_KINDS, TRAIN_KINDS, distort, single_threaded
from data.lossless import write_lossless
from demo.clips.contents import CLIP_FRAMES, Content, contents, pristine_clip
from runtime.errors import CommandFailed

LABEL_TABLE = Path(__file__).with_name("labels.csv")
CLIPS = Path(__file__).resolve().parents[1] / "built"
MANIFEST_COLUMNS = [
    "video_id", "path", "mos", "split", "source", "label_set", "headline", "distortion", "strength",
    "content", "label_by", "licence",
]  # fmt: skip
_TRAIN_CLIPS_PER_KIND = 130
_HELD_OUT_CLIPS_PER_SOURCE = {"test": 3, "ood": 5}
_TEMPORAL_CLIPS_PER_SOURCE = 2
_SIGNATURE_TOLERANCE = 1.5


class DemoSetError(CommandFailed):
    """A rebuilt clip differs from the labelled clip. The message names the clip and the fix."""


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """Everything that determines a clip's pixels."""

    video_id: str
    split: str
    content: Content
    kind: str
    strength: float
    seed: int


def plan_clips() -> Iterator[ClipPlan]:
    """Plan the clips of the three splits.

    Test and ood combine every source with every distortion kind of the split. For each kind, strengths are
    spread over [0, 1].
    """
    seed = 0
    for split, kinds in (("train", TRAIN_KINDS), ("test", TRAIN_KINDS), ("ood", OOD_KINDS)):
        sources = contents(split)
        for kind in kinds:
            pairs = _train_sources(sources) if split == "train" else _held_out_sources(sources, split, kind)
            rng = np.random.default_rng([len(pairs), hash_of(split, kind)])
            strengths = (rng.permutation(len(pairs)) + rng.random(len(pairs))) / len(pairs)
            for index, (content, strength) in enumerate(zip(pairs, strengths, strict=True)):
                video_id = f"{split}-{kind}-{index:03d}"
                yield ClipPlan(video_id, split, content, kind, round(float(strength), 4), seed)
                seed += 1


def hash_of(*parts: str) -> int:
    return int.from_bytes(hashlib.blake2b("/".join(parts).encode(), digest_size=4).digest(), "big")


def _train_sources(sources: tuple[Content, ...]) -> list[Content]:
    """The sources of the training clips of one kind: half real, half generated."""
    real = [c for c in sources if c.kind != "generated"]
    generated = [c for c in sources if c.kind == "generated"]
    half = _TRAIN_CLIPS_PER_KIND // 2
    return [real[i % len(real)] for i in range(half)] + [generated[i % len(generated)] for i in range(half)]


def _held_out_sources(sources: tuple[Content, ...], split: str, kind: str) -> list[Content]:
    each = _TEMPORAL_CLIPS_PER_SOURCE if kind in TEMPORAL_KINDS else _HELD_OUT_CLIPS_PER_SOURCE[split]
    return [content for content in sources for _ in range(each)]


def make_clip(plan: ClipPlan) -> tuple[np.ndarray, np.ndarray]:
    """Make the clip (pristine, distorted), each uint8 [CLIP_FRAMES, CLIP_PX, CLIP_PX, 3]."""
    rng = np.random.default_rng([plan.seed, 2025])
    pristine = pristine_clip(plan.content, rng)
    return pristine, distort(pristine, plan.kind, plan.strength, rng)


def signature(frames: np.ndarray) -> str:
    """The mean grey levels of the four quadrants of the middle frame. They identify a clip, so that a rebuilt
    clip can be compared with the labelled one."""
    middle = frames[CLIP_FRAMES // 2].astype(np.float64)
    h, w = middle.shape[0] // 2, middle.shape[1] // 2
    quadrants = [middle[:h, :w], middle[:h, w:], middle[h:, :w], middle[h:, w:]]
    return "/".join(f"{q.mean():.1f}" for q in quadrants)


def build(out: Path = CLIPS, workers: int = 2, progress: Callable[[int, int], None] | None = None) -> Path:
    """Build the missing clips of the demo set under `out`; returns the manifest's path.

    `progress` is called with the number of clips done and the total. Raises DemoSetError if a clip differs
    from the labelled one.
    """
    table = pd.read_csv(LABEL_TABLE, keep_default_na=False, dtype={"signature": str})
    out.mkdir(parents=True, exist_ok=True)
    stamp, manifest = out / "built.json", out / "manifest.csv"
    digest = hashlib.sha256(LABEL_TABLE.read_bytes()).hexdigest()
    if stamp.exists() and manifest.exists() and json.loads(stamp.read_text())["labels"] == digest:
        return manifest
    wanted = dict(zip(table["video_id"], table["signature"], strict=True))
    plans = [plan for plan in plan_clips() if plan.video_id in wanted]
    if len(plans) != len(table):
        raise DemoSetError(
            f"{LABEL_TABLE} does not match the plan of the clips: recompute it with "
            f"`python -m demo.clips.label_table`"
        )
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=single_threaded) as pool:
        made = pool.map(partial(_build_clip, out, wanted), plans, chunksize=8)
        for done, _ in enumerate(made, start=1):
            if progress is not None:
                progress(done, len(plans))
    table[MANIFEST_COLUMNS].to_csv(manifest, index=False)
    stamp.write_text(json.dumps({"labels": digest}))
    return manifest


def clip_path(plan: ClipPlan) -> str:
    """The path of a clip, relative to the manifest's folder."""
    return f"{plan.split}/{plan.video_id}.mp4"


def _build_clip(out: Path, signatures: dict[str, str], plan: ClipPlan) -> None:
    path = out / clip_path(plan)
    made_of = path.with_suffix(".json")
    recipe = json.dumps([plan.content.name, plan.kind, plan.strength, plan.seed, signatures[plan.video_id]])
    if path.exists() and made_of.exists() and made_of.read_text() == recipe:
        return
    frames = make_clip(plan)[1]
    found, labelled = (
        np.array([float(x) for x in s.split("/")]) for s in (signature(frames), signatures[plan.video_id])
    )
    if np.abs(found - labelled).max() > _SIGNATURE_TOLERANCE:
        raise DemoSetError(
            f"{plan.video_id}: the rebuilt clip differs from the one that was labelled (grey levels "
            f"{found.tolist()}, labelled {labelled.tolist()}): install the pinned versions "
            f"(`make setup`), or recompute the labels with `python -m demo.clips.label_table`"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp.mp4")
    write_lossless(temporary, frames)
    temporary.replace(path)
    made_of.write_text(recipe)
