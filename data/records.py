"""Small records that are passed between rooms. None contains pixels or weights.

A `Video` is a labelled row of a manifest. A `VideoRef` identifies pixels: the same ref always decodes to the
same frames. A `Group` is the G completions that one engine sampled for one VideoRef.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import ray

PerturbationKind = Literal["shuffle", "local_shuffle", "reverse", "jitter", "duplicate", "drop"]
Copy = Literal["clean", "perturbed"]


@dataclass(frozen=True, slots=True)
class Perturbation:
    """A temporal perturbation. For a given number of frames, its kind and seed determine the result."""

    kind: PerturbationKind
    seed: int


@dataclass(frozen=True, slots=True)
class VideoRef:
    """Identifies the frames of a video: the middle frame of each of `n_frames` equal segments, with the
    perturbation, if any, applied.

    `path` is absolute. `window_s` restricts the segments to the part from `window_s[0]` to `window_s[1]`
    seconds; the latter may be infinite. `beside` is the path of a second video: half of the frames come from
    `path`, the rest from `beside`. With `frame_rate`, in pictures per second, `path` may be a folder of
    numbered pictures.
    """

    video_id: str
    path: str
    n_frames: int
    perturbation: Perturbation | None = None
    window_s: tuple[float, float] | None = None
    beside: str | None = None
    frame_rate: float | None = None

    @property
    def n_videos(self) -> int:
        return 1 if self.beside is None else 2


@dataclass(frozen=True, slots=True)
class Video:
    """A labelled row of a manifest.

    `mos` is on a scale of 1 to 5. Scores are compared only within one `label_set`. The label of a `rank_only`
    row is used only for ranking, not for regression.

    `original_mos` is the published label. `scale_low` and `scale_high` are the published labels that
    correspond to MOS 1 and MOS 5 (low > high if smaller is better). A row has all three or none.
    """

    video_id: str
    path: str
    mos: float
    split: str
    label_set: str = "default"
    source: str = ""
    rank_only: bool = False
    headline: bool = True
    distortion: str = ""
    strength: float | None = None
    original_mos: float | None = None
    scale_low: float | None = None
    scale_high: float | None = None


@dataclass(frozen=True, slots=True)
class CohortMember:
    """One video of a cohort: its clean ref and, if the temporal reward is on, its perturbed ref."""

    video: Video
    clean: VideoRef
    perturbed: VideoRef | None


@dataclass(frozen=True, slots=True)
class Cohort:
    """The videos that the ranking reward compares with one another, determined by (seed, epoch, index).

    `index` counts cohorts from 0 over the whole run. `epoch` counts from 0.
    """

    index: int
    epoch: int
    members: tuple[CohortMember, ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled answer.

    `logprobs` holds each token's log-prob under the sampling distribution (temperature and token mask
    applied). `versions` holds each token's policy version.
    """

    token_ids: list[int]
    logprobs: list[float]
    text: str
    finish_reason: str
    versions: list[int]
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """The G completions of one VideoRef, sampled by one engine.

    `prompt_token_ids` is the engine's prompt, with image placeholders expanded.
    """

    ref: VideoRef
    prompt_token_ids: list[int]
    completions: list[Completion]
    worker_id: str = ""
    sampled_s: float = 0.0
    cached_prompt_tokens: int = 0

    @property
    def oldest_version(self) -> int:
        return min(v for c in self.completions for v in c.versions)

    @property
    def texts(self) -> list[str]:
        return [c.text for c in self.completions]

    @property
    def n_tokens(self) -> int:
        return sum(len(c.token_ids) for c in self.completions)


@dataclass(frozen=True, slots=True)
class SamplingRequest:
    """A request to an engine for one completion of `ref` per entry of `seeds` (None: unseeded).

    `question` replaces the rating question and its answer format.
    """

    ref: VideoRef
    seeds: tuple[int | None, ...]
    temperature: float
    max_tokens: int
    question: str | None = None


@dataclass(frozen=True, slots=True)
class Weights:
    """A policy in the object store: its version, and a reference to each `Bucket` of its weights."""

    version: int
    buckets: list[ray.ObjectRef]


@dataclass(slots=True)
class VideoFailure:
    """The reason why a row of the epoch was not trained on. `kind` is set for a refused file. `marks` are the
    unusual facts about a decoded file."""

    video_id: str
    path: str
    stage: str
    reason: str
    epoch: int = 0
    kind: str = ""
    marks: dict[str, Any] = field(default_factory=dict)
