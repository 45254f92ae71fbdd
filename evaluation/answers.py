"""Requests for a video's score, and reading the score from a model's answers.

`score`, `evaluate`, the evaluation of a training run and the benchmarks build on this.
"""

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from data.frames import FrameInfo
from data.records import Completion, Group, SamplingRequest, VideoRef
from data.seeds import stable_hash
from rewards.parser import parse_score

_THINK = re.compile(r"<think>(.*?)</think>", re.DOTALL)


def score_requests(
    ref: VideoRef, samples: int, seed: int, temperature: float, max_tokens: int
) -> list[SamplingRequest]:
    """Request one greedy answer and `samples` sampled answers.

    The seed of each sample depends only on `seed`, the video's id and the sample's index.
    """
    requests = [SamplingRequest(ref, (None,), 0.0, max_tokens)]
    if samples:
        seeds = tuple(stable_hash(seed, "evaluation", ref.video_id, number) for number in range(samples))
        requests.append(SamplingRequest(ref, seeds, temperature, max_tokens))
    return requests


def cost_tokens(requests: Sequence[SamplingRequest]) -> int:
    """The maximum number of tokens that all answers can have. The fleet balances workers by it."""
    return sum(len(request.seeds) * request.max_tokens for request in requests)


def score_of(completion: Completion) -> float | None:
    """The score from 1 to 5, or None if the answer does not parse."""
    parsed = parse_score(completion.text)
    return None if parsed is None else parsed.score


def trace_of(text: str) -> str:
    """The text inside the first `<think>`; the whole text if there is none."""
    match = _THINK.search(text)
    return (match[1] if match else text).strip()


def mean_score(samples: Sequence[float | None]) -> float | None:
    """Mean of the samples that parse."""
    scores = [score for score in samples if score is not None]
    return math.fsum(scores) / len(scores) if scores else None


@dataclass(frozen=True, slots=True)
class ScoredVideo:
    """A model's answers about a video, or about a window of it.

    `score` is the score in the greedy answer, from 1 to 5; None if it does not parse, or if the video failed
    for the reason in `failure`. `samples` are the scores of sampled answers, in the order of `sample_texts`.
    `trace` is the text inside <think>; all of `text` if there is no <think>. `seconds` is the time from the
    start of decoding to the last answer; videos in the same remote call have the same value.
    """

    video_id: str
    path: str
    window_s: tuple[float, float] | None
    score: float | None
    trace: str = ""
    text: str = ""
    samples: list[float | None] = field(default_factory=list)
    sample_texts: list[str] = field(default_factory=list)
    frames: FrameInfo | None = None
    seconds: float = 0.0
    failure: str = ""

    @property
    def sample_mean(self) -> float | None:
        """Mean of the samples that parse."""
        return mean_score(self.samples)

    @property
    def sample_spread(self) -> float | None:
        """Standard deviation of the samples that parse; None for fewer than two."""
        scores = [score for score in self.samples if score is not None]
        return statistics.stdev(scores) if len(scores) > 1 else None


def scored_video(ref: VideoRef, info: FrameInfo, groups: Sequence[Group], seconds: float) -> ScoredVideo:
    """Build a video's result from the answers to its `score_requests`."""
    greedy = groups[0].completions[0]
    sampled = [completion for group in groups[1:] for completion in group.completions]
    return ScoredVideo(
        video_id=ref.video_id,
        path=ref.path,
        window_s=info.window_s or ref.window_s,
        score=score_of(greedy),
        trace=trace_of(greedy.text),
        text=greedy.text,
        samples=[score_of(c) for c in sampled],
        sample_texts=[c.text for c in sampled],
        frames=info,
        seconds=seconds,
    )


def failed_video(ref: VideoRef, reason: str, seconds: float = 0.0) -> ScoredVideo:
    """Build the result of a video that has no answers."""
    return ScoredVideo(ref.video_id, ref.path, ref.window_s, None, seconds=seconds, failure=reason)
