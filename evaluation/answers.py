"""Asking for a video's score, and reading it out of what the model says."""

import re

from data.records import Completion, SamplingRequest, VideoRef
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
