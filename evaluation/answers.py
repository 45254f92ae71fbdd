"""Asking for a video's score, and reading it out of what the model says."""

import math
import re
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
    """One greedy answer and, if `samples` is above 0, as many sampled ones.

    Their seeds depend on `seed`, the video's id and their number alone.
    """
    requests = [SamplingRequest(ref, (None,), 0.0, max_tokens)]
    if samples:
        seeds = tuple(stable_hash(seed, "evaluation", ref.video_id, number) for number in range(samples))
        requests.append(SamplingRequest(ref, seeds, temperature, max_tokens))
    return requests


def score_of(completion: Completion) -> float | None:
    """The score from 1 to 5, or None if the answer does not parse."""
    parsed = parse_score(completion.text)
    return None if parsed is None else parsed.score


def trace_of(text: str) -> str:
    """What is inside the first `<think>`, else the whole text."""
    match = _THINK.search(text)
    return (match[1] if match else text).strip()


@dataclass(frozen=True, slots=True)
class ScoredVideo:
    """What a model says of a video, or of a window of it.

    `score` is that of the greedy answer, from 1 to 5; None where that does not parse, or where `failure` says
    what went wrong with the video. `samples` are the scores of sampled answers, in the order of
    `sample_texts`. `trace` is what stands inside <think>, else the whole of `text`. `seconds` run from the
    start of decoding to the last answer; videos that are scored at once share the time.
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
        scores = self._parsed
        return math.fsum(scores) / len(scores) if scores else None

    @property
    def sample_spread(self) -> float | None:
        """Standard deviation of the samples that parse; None for fewer than two."""
        scores, mean = self._parsed, self.sample_mean
        if mean is None or len(scores) < 2:
            return None
        return math.sqrt(math.fsum((s - mean) ** 2 for s in scores) / (len(scores) - 1))

    @property
    def _parsed(self) -> list[float]:
        return [s for s in self.samples if s is not None]


def scored_video(ref: VideoRef, info: FrameInfo, groups: Sequence[Group], seconds: float) -> ScoredVideo:
    """Out of the groups of `answers.score_requests`."""
    greedy = groups[0].completions[0]
    sampled = [completion for group in groups[1:] for completion in group.completions]
    return ScoredVideo(
        video_id=ref.video_id,
        path=ref.path,
        window_s=ref.window_s,
        score=score_of(greedy),
        trace=trace_of(greedy.text),
        text=greedy.text,
        samples=[score_of(c) for c in sampled],
        sample_texts=[c.text for c in sampled],
        frames=info,
        seconds=seconds,
    )


def failed_video(ref: VideoRef, reason: str, seconds: float) -> ScoredVideo:
    return ScoredVideo(ref.video_id, ref.path, ref.window_s, None, seconds=seconds, failure=reason)
