"""Score videos with any checkpoint: `launch.py score`, `evaluate`, `ask`, `quiz`, and Python programs.

    from evaluation.scorer import score_frames, score_videos
    for video in score_videos(["a.mp4", "b.mp4"]):
        print(video.path, video.score, video.trace)
    print(score_frames(array).score)  # uint8 [T, H, W, 3]

A Ray task decodes a video, and one engine of the fleet answers. Short videos share these remote calls. A
score does not depend on other videos, on their order, or on the number of engines.
"""

import asyncio
import contextlib
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import ray

from data.decode import Decoder, Reading
from data.frames import FrameInfo
from data.given_frames import as_arrays, decode_array
from data.records import Group, SamplingRequest, VideoRef
from data.video_file import VideoError
from evaluation.answers import ScoredVideo, cost_tokens, failed_video, score_requests, scored_video
from evaluation.models import resolve_checkpoint, scoring_settings
from evaluation.settings import ScoringFailed, ScoringSettings
from rollout.errors import FleetExhausted, RolloutFailed
from rollout.fleet import RolloutFleet
from runtime.calls import together
from runtime.concurrently import concurrently
from runtime.session import cluster_address, ray_session

__all__ = [
    "ScoredVideo", "Scorer", "ScoringFailed", "ScoringSettings", "score_arrays", "score_frames",
    "score_videos",
]  # fmt: skip

T = TypeVar("T")
_END = object()
_LARGEST_BATCH, _BATCH_S = 16, 0.25  # videos, and seconds of decoding, in one remote call


class Scorer:
    """A fleet of engines that run one model, and the decoder that supplies their frames.

        async with Scorer(settings) as scorer:
            async for scored in scorer.score(refs):
                ...

    Unless this process is already connected to Ray, connects to the cluster that `settings.cluster` or
    RAY_ADDRESS names, or starts Ray if none is named. Stops everything that it started when the block ends.
    `sample` answers any request about a video; `score` and `score_arrays` score many videos.
    """

    def __init__(self, settings: ScoringSettings) -> None:
        self.settings = settings
        self.replicas = settings.replicas or 1
        self._batch_size = 1
        self._exit = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "Scorer":
        """Raises ConfigError if no cluster answers, ScoringFailed if no engine starts."""
        async with contextlib.AsyncExitStack() as started:
            if not ray.is_initialized():
                started.enter_context(ray_session(self.settings.cluster, self.settings.cpus(self.replicas)))
            await self._start_fleet(started)
            self._exit = started.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._exit.aclose()

    async def _start_fleet(self, started: contextlib.AsyncExitStack) -> None:
        settings = self.settings
        gpus_per_replica, self.replicas = _sizes(settings)
        self._decoder = Decoder(
            Reading(
                settings.max_frame_px,
                settings.decoder,
                settings.strict,
                settings.square_pixels,
                settings.fetching,
            ),
            timeout_s=settings.decode_timeout_s,
            tasks=settings.decode_tasks * self.replicas,
            cpus=settings.decode_cpus,
        )
        self._fleet = RolloutFleet(
            settings.rollout(self.replicas, gpus_per_replica),
            model_path=settings.checkpoint,
            frames_per_video=settings.frames_per_video,
            seed=settings.seed,
            trust_remote_code=settings.trust_remote_code,
            frame_tokens=settings.frame_tokens,
            placement_timeout_s=settings.cluster.placement_timeout_s,
        )
        started.push_async_callback(self._fleet.close)
        try:
            await self._fleet.start(self.replicas)
        except Exception as error:
            cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
            raise ScoringFailed(f"no engine starts with {settings.checkpoint}: {cause}") from error

    async def sample(
        self, ref: VideoRef, requests: Sequence[SamplingRequest]
    ) -> tuple[FrameInfo, list[Group]]:
        """Call `sample_video` with this fleet. Raises ScoringFailed if no engine is left."""
        with _engines_needed():
            return await sample_video(self._decoder, self._fleet, ref, requests)

    async def score(
        self, refs: Iterable[VideoRef] | AsyncIterable[VideoRef], samples: int = 0
    ) -> AsyncGenerator[ScoredVideo, None]:
        """Score videos, up to `videos_in_flight` per engine at once; yields each result when it is ready.

        The result of a video that cannot be decoded or sampled holds its failure. Refs are taken only when
        there is capacity, so `refs` may be infinite.
        """
        limit = self.settings.videos_in_flight * self.replicas
        batches = concurrently(
            self._batches(refs), lambda batch: self._score_batch(batch, samples), limit, weight=len
        )
        async with contextlib.aclosing(batches) as done:
            async for batch in done:
                for scored in batch:
                    yield scored

    async def score_arrays(
        self, videos: Iterable[Any] | AsyncIterable[Any], samples: int = 0
    ) -> AsyncGenerator[ScoredVideo, None]:
        """Score videos whose frames are in memory; yields each result when it is ready. Its `video_id` is the
        video's number, counted from 0.

        Args:
            videos: an iterable, a generator or a dataloader of numpy or torch arrays. Each is one video,
                uint8 [T, H, W, 3], or B videos, [B, T, H, W, 3]. Items are taken in another thread, and only
                when there is capacity. Frames are selected and downscaled as for a file.
        Raises:
            ValueError: for another type or shape.
        """
        limit = self.settings.videos_in_flight * self.replicas
        calls = concurrently(self._looked_at(videos), lambda look: self._score_look(look, samples), limit)
        async with contextlib.aclosing(calls) as done:
            async for scored in done:
                yield scored

    async def _looked_at(
        self, videos: Iterable[Any] | AsyncIterable[Any]
    ) -> AsyncIterator[tuple[VideoRef, FrameInfo, np.ndarray]]:
        """Yield (ref, frame information, frames to show the model) of each video. Holds all frames of only
        one video at a time."""
        settings = self.settings
        number = 0
        async for item in _drawn(videos):
            for frames in await asyncio.to_thread(as_arrays, item):
                ref = VideoRef(str(number), f"video {number}", settings.frames_per_video)
                shown, info = await asyncio.to_thread(
                    decode_array, frames, ref.n_frames, settings.max_frame_px
                )
                yield ref, info, shown
                number += 1

    async def _score_look(self, look: tuple[VideoRef, FrameInfo, np.ndarray], samples: int) -> ScoredVideo:
        (ref, info, shown), started = look, time.perf_counter()
        try:
            (scored,) = await self._ask([ref], [info], ray.put([shown]), samples, started)
        except RolloutFailed as error:
            return failed_video(ref, str(error))
        return scored

    def _requests(self, ref: VideoRef, samples: int) -> list[SamplingRequest]:
        settings = self.settings
        return score_requests(
            ref, samples, settings.seed, settings.temperature, settings.max_completion_tokens
        )

    async def _batches(
        self, refs: Iterable[VideoRef] | AsyncIterable[VideoRef]
    ) -> AsyncIterator[list[VideoRef]]:
        """Yield batches of videos that share remote calls. Videos that decode quickly get larger batches,
        because the overhead of a call dominates. Refs from an async iterable are yielded one by one, so that
        none waits for another."""
        if isinstance(refs, AsyncIterable):
            async for ref in refs:
                yield [ref]
        else:
            iterator = iter(refs)
            largest = 1 if self.settings.exact else self.settings.videos_in_flight
            while batch := list(islice(iterator, min(self._batch_size, largest))):
                yield batch

    async def _score_batch(self, refs: Sequence[VideoRef], samples: int) -> list[ScoredVideo]:
        try:
            return await self._score_together(refs, samples)
        except (VideoError, RolloutFailed) as error:
            if len(refs) == 1:
                return [failed_video(refs[0], _reason(error))]
            # One of the videos made the shared call fail: retry each in a call of its own.
            alone = (self._score_batch([ref], samples) for ref in refs)
            return [scored for batch in await together(alone) for scored in batch]

    async def _score_together(self, refs: Sequence[VideoRef], samples: int) -> list[ScoredVideo]:
        """Raises VideoError or RolloutFailed if the shared call fails."""
        started = time.perf_counter()
        looks, frames = await self._decoder.look_all(refs)
        self._batch_size = max(1, min(_LARGEST_BATCH, int(_BATCH_S * len(refs) / looks.seconds)))
        return await self._ask(refs, looks.infos, frames, samples, started)

    async def _ask(
        self,
        refs: Sequence[VideoRef],
        infos: Sequence[FrameInfo | VideoError],
        frames: ray.ObjectRef,
        samples: int,
        started: float,
    ) -> list[ScoredVideo]:
        """Score videos in one call to one engine. `frames` refers to the list of their decoded frames.
        `started` is the perf_counter time at which decoding began."""
        requests = [
            [] if isinstance(info, VideoError) else self._requests(ref, samples)
            for ref, info in zip(refs, infos, strict=True)
        ]
        answers: list[list[Group] | ValueError] = [[] for _ in refs]
        if any(requests):
            with _engines_needed():
                answers = await self._fleet.sample_all(requests, frames, sum(map(cost_tokens, requests)))
        seconds = time.perf_counter() - started
        return [
            _result(ref, info, groups, seconds)
            for ref, info, groups in zip(refs, infos, answers, strict=True)
        ]


def _result(
    ref: VideoRef, info: FrameInfo | VideoError, groups: list[Group] | ValueError, seconds: float
) -> ScoredVideo:
    if isinstance(info, VideoError):
        return failed_video(ref, _reason(info), seconds)
    if isinstance(groups, ValueError):
        return failed_video(ref, _reason(groups), seconds)
    return scored_video(ref, info, groups, seconds)


async def sample_video(
    decoder: Decoder, fleet: RolloutFleet, ref: VideoRef, requests: Sequence[SamplingRequest]
) -> tuple[FrameInfo, list[Group]]:
    """Decode a video once and send all requests about it to one worker; returns one group per request.

    Raises:
        VideoError: if the file cannot be decoded.
        RolloutFailed: if the fleet cannot answer these requests.
        FleetExhausted: if no worker is left.
    """
    info, frames = await decoder.look(ref)
    return info, await fleet.sample(requests, frames, cost_tokens(requests))


def score_videos(
    paths: Iterable[str | Path], checkpoint: str | None = None, samples: int = 0, **settings: Any
) -> list[ScoredVideo]:
    """Score videos from a Python program or a notebook; returns results in the order of `paths`.

    Each call starts and stops an engine, which takes about half a minute: pass all videos at once, or keep a
    `Scorer` open.

    Args:
        checkpoint: same as `--checkpoint` of `launch.py score`.
        samples: number of sampled answers per video.
        settings: fields of ScoringSettings.
    Raises:
        ConfigError: for a checkpoint or a setting that cannot be used.
        ScoringFailed: if no engine can be started.
    """
    chosen = scoring_settings(resolve_checkpoint(checkpoint), **settings)
    names = [str(path) for path in paths]
    refs = [
        VideoRef(name, str(Path(name).absolute()), chosen.frames_per_video) for name in dict.fromkeys(names)
    ]

    async def score() -> list[ScoredVideo]:
        async with Scorer(chosen) as scorer:
            found = {scored.video_id: scored async for scored in scorer.score(refs, samples)}
            return [found[name] for name in names]

    return _run(score())


def score_frames(
    frames: Any, checkpoint: str | None = None, samples: int = 0, **settings: Any
) -> ScoredVideo:
    """Score one video whose frames are in memory: uint8 [T, H, W, 3], numpy or torch.

    Each call starts and stops an engine; `score_arrays` takes several videos.
    """
    (scored,) = score_arrays([frames], checkpoint, samples, **settings)
    return scored


def score_arrays(
    videos: Iterable[Any], checkpoint: str | None = None, samples: int = 0, **settings: Any
) -> list[ScoredVideo]:
    """Score videos whose frames are in memory; returns results in the order of `videos`.

    Args:
        videos: as in `Scorer.score_arrays`.
        checkpoint, samples, settings: as in `score_videos`.
    Raises:
        ValueError: for frames that are not uint8 [T, H, W, 3] or [B, T, H, W, 3].
        ConfigError, ScoringFailed: as in `score_videos`.
    """
    chosen = scoring_settings(resolve_checkpoint(checkpoint), **settings)

    async def score() -> list[ScoredVideo]:
        async with Scorer(chosen) as scorer:
            found = [scored async for scored in scorer.score_arrays(videos, samples)]
            return sorted(found, key=lambda scored: int(scored.video_id))

    return _run(score())


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run in a new thread, because a notebook's thread already has a running event loop."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()


async def _drawn(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    """Yield the items; a slow synchronous iterable does not block the event loop."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
        return
    iterator = iter(items)
    while (item := await asyncio.to_thread(next, iterator, _END)) is not _END:
        yield item


def _sizes(settings: ScoringSettings) -> tuple[int, int]:
    """Choose (GPUs per engine, number of engines) from the settings and Ray's resources."""
    gpus = int(ray.cluster_resources().get("GPU", 0))
    each = settings.gpus_per_replica if settings.gpus_per_replica is not None else min(1, gpus)
    if settings.replicas is not None:
        return each, settings.replicas
    on_cluster = cluster_address(settings.cluster) is not None
    free_gpus = int(ray.available_resources().get("GPU", 0))
    return each, max(1, free_gpus // each) if on_cluster and each else 1


@contextlib.contextmanager
def _engines_needed() -> Iterator[None]:
    try:
        yield
    except FleetExhausted as error:
        raise ScoringFailed(str(error)) from error


def _reason(error: Exception) -> str:
    return error.reason if isinstance(error, VideoError) else str(error)
