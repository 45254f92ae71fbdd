"""Judging a model on videos it was not trained on."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from data.decode import Decoder
from data.model_view import ModelView
from data.records import Completion, Video, VideoRef
from data.video_file import VideoError
from evaluation.answers import score_of, score_requests
from evaluation.statistics.correlation import bootstrap_ci, plcc, srcc
from rollout.fleet import RolloutFailed, RolloutFleet

VIDEOS_IN_FLIGHT = 64


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one video: its greedy answer and, if asked for, sampled ones."""

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

    @property
    def sample_mean(self) -> float:
        """Mean of the samples that parse; NaN if none does."""
        scores = [s for s in self.samples if s is not None]
        return math.fsum(scores) / len(scores) if scores else math.nan

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


async def predict(
    videos: Sequence[Video], fleet: RolloutFleet, decoder: Decoder, view: ModelView, samples: int, seed: int
) -> list[Prediction]:
    """Ask the fleet about every video: one greedy answer each, and `samples` sampled ones, seeded by
    `seed`. `view` says how the model is shown a video.

    A video that cannot be decoded or sampled gets a prediction with its failure and no score.
    """
    limit = asyncio.Semaphore(VIDEOS_IN_FLIGHT)
    max_tokens = view.max_completion_tokens

    async def one(video: Video) -> Prediction:
        ref = VideoRef(video.video_id, video.path, view.frames_per_video)
        requests = score_requests(ref, samples, seed, view.temperature, max_tokens)
        async with limit:
            try:
                frames = await decoder.decode(ref)
                groups = await fleet.sample(requests, frames, (1 + samples) * max_tokens)
            except (VideoError, RolloutFailed) as error:
                return _prediction(video, None, [], str(error))
        sampled = groups[1].completions if samples else []
        return _prediction(video, groups[0].completions[0], sampled, "")

    return list(await asyncio.gather(*(one(video) for video in videos)))


def _prediction(
    video: Video, greedy: Completion | None, samples: Sequence[Completion], failure: str
) -> Prediction:
    return Prediction(
        video_id=video.video_id,
        path=video.path,
        mos=video.mos,
        source=video.source,
        headline=video.headline,
        distortion=video.distortion,
        greedy=None if greedy is None else score_of(greedy),
        text="" if greedy is None else greedy.text,
        samples=[score_of(completion) for completion in samples],
        failure=failure,
    )


def agreement(predictions: Sequence[Prediction], bootstrap_samples: int, seed: int) -> dict[str, Any]:
    """How well the scores of headline videos agree with their MOS.

    SRCC with a 95 % interval bootstrapped over sources and unfitted PLCC, of the greedy scores and, where
    there are samples, of their means. Videos without a parsed score are left out and counted.
    """
    headline = [p for p in predictions if p.headline]
    mos = np.array([p.mos for p in headline])
    sources = np.array([p.source or p.video_id for p in headline])
    answered = [p for p in headline if not p.failure]
    result: dict[str, Any] = {
        "videos": len(headline),
        "failed": sum(1 for p in headline if p.failure),
        "unparsed": sum(1 for p in answered if p.greedy is None),
    }
    scores = {"": np.array([math.nan if p.greedy is None else p.greedy for p in headline])}
    if any(p.samples for p in headline):
        scores["mean_"] = np.array([p.sample_mean for p in headline])
    for prefix, predicted in scores.items():
        usable = np.isfinite(predicted)
        low, high = bootstrap_ci(
            predicted[usable], mos[usable], sources[usable], samples=bootstrap_samples, seed=seed
        )
        result |= {
            f"{prefix}srcc": _json_number(srcc(predicted[usable], mos[usable])),
            f"{prefix}plcc": _json_number(plcc(predicted[usable], mos[usable])),
            f"{prefix}srcc_low": _json_number(low),
            f"{prefix}srcc_high": _json_number(high),
        }
    return result


def _json_number(value: float) -> float | None:
    return round(float(value), 4) if math.isfinite(value) else None
