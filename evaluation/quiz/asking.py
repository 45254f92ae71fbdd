"""Ask an engine a question about one or two videos."""

from dataclasses import dataclass
from typing import Protocol

from data.frames import FrameInfo
from data.records import Group, SamplingRequest, VideoRef
from data.seeds import stable_hash
from evaluation.answers import trace_of
from evaluation.quiz.grading import final_answer
from evaluation.settings import ScoringSettings
from runtime.errors import ConfigError


class Sampler(Protocol):
    """The part of `evaluation.scorer.Scorer` used here."""

    settings: ScoringSettings

    async def sample(
        self, ref: VideoRef, requests: list[SamplingRequest]
    ) -> tuple[FrameInfo, list[Group]]: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A model's answer. `trace` is the text inside `<think>`, or empty. `answer` is the final answer, or the
    whole `text` if it has none. `finish_reason` is "length" if the answer reached the token limit."""

    text: str
    trace: str
    answer: str
    finish_reason: str
    frames: FrameInfo


def reference(name: str, videos: tuple[str, ...], frames_per_video: int) -> VideoRef:
    """Select the frames to ask about. For two videos, each gets half of `frames_per_video`.

    Args:
        name: identifies the question; its seed depends on it.
        videos: one or two absolute paths.
        frames_per_video: the number of frames that the model was trained on.
    Raises:
        ConfigError: if there are two videos and fewer than two frames.
    """
    if len(videos) == 1:
        return VideoRef(name, videos[0], frames_per_video)
    if frames_per_video < 2:
        raise ConfigError("a pair of videos needs 2 frames or more (--frames), and the model is shown 1")
    return VideoRef(name, videos[0], frames_per_video // 2 * 2, beside=videos[1])


async def ask(sampler: Sampler, ref: VideoRef, prompt: str, temperature: float = 0.0) -> Asked:
    """Ask once; temperature 0 is greedy.

    Args:
        prompt: the question, with instructions on the answer's format.
    Raises:
        VideoError: if a video cannot be decoded.
        RolloutFailed: if no engine answers, for example because the prompt is too long.
    """
    settings = sampler.settings
    seed = stable_hash(settings.seed, "question", ref.video_id) if temperature else None
    request = SamplingRequest(ref, (seed,), temperature, settings.max_completion_tokens, prompt)
    frames, (group,) = await sampler.sample(ref, [request])
    (completion,) = group.completions
    text = completion.text
    return Asked(
        text=text,
        trace=trace_of(text) if "<think>" in text else "",
        answer=final_answer(text) or text.strip(),
        finish_reason=completion.finish_reason,
        frames=frames,
    )
