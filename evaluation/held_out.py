"""Evaluate a policy version on held-out videos during training: predict scores, and compare them with MOS."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from data.decode import Decoder
from data.model_view import ModelView
from data.records import Video, VideoRef
from data.video_file import VideoError
from evaluation.answers import failed_video, mean_score, score_requests, scored_video
from evaluation.scorer import sample_video
from evaluation.statistics.intervals import unfitted_agreement
from rollout.errors import RolloutFailed
from rollout.fleet import RolloutFleet

VIDEOS_IN_FLIGHT = 64


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
    videos: Sequence[Video], fleet: RolloutFleet, decoder: Decoder, view: ModelView, samples: int, seed: int
) -> list[Prediction]:
    """Ask the fleet for one greedy answer and `samples` sampled answers per video.

    A video that cannot be decoded or sampled gets a prediction with its failure and no score.

    Args:
        view: how a video is presented to the model (number and size of frames, token limits).
        seed: seed of the sampled answers.
    """
    limit = asyncio.Semaphore(VIDEOS_IN_FLIGHT)

    async def one(video: Video) -> Prediction:
        ref = VideoRef(video.video_id, video.path, view.frames_per_video)
        requests = score_requests(ref, samples, seed, view.temperature, view.max_completion_tokens)
        try:
            async with limit:
                info, groups = await sample_video(decoder, fleet, ref, requests)
            scored = scored_video(ref, info, groups, seconds=0.0)
        except (VideoError, RolloutFailed) as error:
            scored = failed_video(ref, str(error))
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

    return list(await asyncio.gather(*map(one, videos)))


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
