"""Evaluate a policy version on held-out videos during training: predict scores, and compare them with MOS."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from data.model_view import ModelView
from data.records import SamplingRequest, Video, VideoRef
from data.video_file import VideoError
from evaluation.answers import (
    ScoredVideo,
    cost_tokens,
    failed_video,
    mean_score,
    score_requests,
    scored_video,
)
from evaluation.kept_frames import KeptFrames
from evaluation.statistics.intervals import unfitted_agreement
from rollout.errors import RolloutFailed
from rollout.fleet import RolloutFleet
from runtime.calls import together

IN_FLIGHT_PER_ENGINE = 64
"""Videos. Enough that an engine decodes answers while others wait for their frames."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The scores predicted for one labelled video: from the greedy answer and from any sampled answers."""

    video_id: str
    path: str
    mos: float
    source: str
    headline: bool
    distortion: str
    greedy: float | None
    text: str
    samples: list[float | None]
    failure: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


async def predict(
    videos: Sequence[Video],
    fleet: RolloutFleet,
    frames: KeptFrames,
    view: ModelView,
    samples: int,
    seed: int,
    version: int,
) -> list[Prediction]:
    """Ask the fleet for one greedy answer and `samples` sampled answers per video.

    A video that cannot be decoded or sampled gets a prediction with its failure and no score; so does one
    that was answered under another version than `version`, which its scores would be recorded under.

    Args:
        view: how a video is presented to the model (number and size of frames, token limits).
        seed: seed of the sampled answers.
        version: the policy version that the engines hold.
    """
    limit = asyncio.Semaphore(IN_FLIGHT_PER_ENGINE * max(1, len(fleet.healthy)))

    async def one(video: Video) -> Prediction:
        ref = VideoRef(video.video_id, video.path, view.frames_per_video)
        requests = score_requests(ref, samples, seed, view.temperature, view.max_completion_tokens)
        async with limit:
            scored = await _scored(ref, requests, fleet, frames, version)
        return Prediction(
            video_id=video.video_id,
            path=video.path,
            mos=video.mos,
            source=video.source,
            headline=video.headline,
            distortion=video.distortion,
            greedy=scored.score,
            text=scored.text,
            samples=scored.samples,
            failure=scored.failure,
        )

    return await together(map(one, videos))


async def _scored(
    ref: VideoRef,
    requests: Sequence[SamplingRequest],
    fleet: RolloutFleet,
    frames: KeptFrames,
    version: int,
) -> ScoredVideo:
    kept = ref in frames
    try:
        info, shown = await frames.look(ref)
        groups = await fleet.sample(requests, shown, cost_tokens(requests))
    except VideoError as error:
        return failed_video(ref, str(error))
    except RolloutFailed as error:
        if kept and ref in frames:
            frames.forget(ref)
            return await _scored(ref, requests, fleet, frames, version)
        return failed_video(ref, str(error))
    versions = {v for group in groups for c in group.completions for v in c.versions}
    if versions - {version}:
        found = ", ".join(map(str, sorted(versions)))
        return failed_video(ref, f"answered under version {found} in an evaluation of version {version}")
    return scored_video(ref, info, groups, seconds=0.0)


def agreement(predictions: Sequence[Prediction], bootstrap_samples: int, seed: int) -> dict[str, Any]:
    """Measure how well the scores of headline videos agree with their MOS.

    Returns SRCC with a 95 % interval bootstrapped over sources, and PLCC without a fit, for the greedy
    scores. With sampled answers, keys with the prefix `mean_` hold the same for the mean sampled score.
    Videos without a parsed score are left out; `failed` and `unparsed` count them.
    """
    headline = [p for p in predictions if p.headline]
    mos = np.array([p.mos for p in headline])
    sources = np.array([p.source or p.video_id for p in headline])
    result: dict[str, Any] = {
        "videos": len(headline),
        "failed": sum(1 for p in headline if p.failure),
        "unparsed": sum(1 for p in headline if p.greedy is None and not p.failure),
    }
    scores = {"": [p.greedy for p in headline]}
    if any(p.samples for p in headline):
        scores["mean_"] = [mean_score(p.samples) for p in headline]
    for prefix, values in scores.items():
        found = unfitted_agreement(np.array(values, dtype=float), mos, sources, bootstrap_samples, seed)
        result |= {f"{prefix}{name}": _json_number(value) for name, value in found.items()}
    return result


def _json_number(value: float) -> float | None:
    return round(float(value), 4) if math.isfinite(value) else None
