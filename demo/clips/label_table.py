"""Compute labels.csv with `python -m demo.clips.label_table`. Needs the extra `labels` (vmaf-torch)."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pandas as pd
from rich.progress import track

from data.distortions import TEMPORAL_KINDS
from demo.clips.build import LABEL_TABLE, ClipPlan, clip_path, make_clip, plan_clips, signature
from demo.clips.labels import label, sampled_frames_show, vmaf_scores
from demo.clips.warm import one_thread


def label_clip(plan: ClipPlan) -> dict[str, object]:
    """Make and label one clip; returns its row of labels.csv."""
    pristine, distorted = make_clip(plan)
    vmaf = float(vmaf_scores([pristine], [distorted])[0])
    mos, label_by = label(plan.kind, plan.strength, vmaf)
    return {
        "video_id": plan.video_id,
        "path": clip_path(plan),
        "mos": round(mos, 3),
        "split": plan.split,
        "source": plan.content.name,
        "label_set": "demo",
        "headline": plan.kind not in TEMPORAL_KINDS or sampled_frames_show(pristine, distorted),
        "distortion": plan.kind,
        "strength": plan.strength,
        "content": plan.content.kind,
        "label_by": label_by,
        "licence": plan.content.licence,
        "vmaf": round(vmaf, 2),
        "signature": signature(distorted),
    }


def main() -> None:
    plans = list(plan_clips())
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=one_thread) as pool:
        rows = list(
            track(pool.map(label_clip, plans, chunksize=8), total=len(plans), description="labelling")
        )
    pd.DataFrame(rows).to_csv(LABEL_TABLE, index=False)


if __name__ == "__main__":
    main()
