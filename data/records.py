"""The small records that travel between rooms. No pixel and no weight is in any of them.

A `Video` is a labelled row of a manifest. A `VideoRef` names pixels: the same ref always decodes to the
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
    """A temporal perturbation; its kind and seed fix the outcome for a given number of frames."""

    kind: PerturbationKind
    seed: int


@dataclass(frozen=True, slots=True)
class VideoRef:
    """Which pixels: the middle frame of each of `n_frames` equal segments of the file at `path`, or of its
    part from `window_s[0]` to `window_s[1]` seconds (the latter may be infinite); then the perturbation, if
    any. `path` is absolute.

    `beside` is the path of a second video: half of the frames are of `path`, the rest of `beside`. With
    `frame_rate`, pictures a second, `path` may be a folder of numbered pictures.
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
    """A labelled row of a manifest. `mos` is on the scale of 1 to 5; scores are compared within one
    `label_set` only; a `rank_only` row has no absolute label worth regressing to.

    `original_mos` is the label as its set publishes it, and `scale_low` and `scale_high` are the set's labels
    that MOS 1 and MOS 5 stand for (low > high where smaller is better): all three, or none.
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
    """One video of a cohort: its clean ref and, with the temporal reward on, its perturbed one."""

    video: Video
    clean: VideoRef
    perturbed: VideoRef | None


@dataclass(frozen=True, slots=True)
class Cohort:
    """The videos that the ranking reward compares with one another, drawn from (seed, epoch, index).

    `index` counts cohorts from 0 over the whole run; `epoch` from 0.
    """

    index: int
    epoch: int
    members: tuple[CohortMember, ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled answer.

    `logprobs` are those of the sampling distribution (temperature and token mask applied),
    one for each token. `versions` holds the policy version of each token.
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

    `prompt_token_ids` has the image placeholders expanded, as the engine saw them.
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
    """Ask an engine for one completion of `ref` per entry of `seeds` (None: unseeded).

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
    """Why a row of the epoch was not trained on. `kind` is that of a refused file; `marks` are the unusual
    facts about a decoded one."""

    video_id: str
    path: str
    stage: str
    reason: str
    epoch: int = 0
    kind: str = ""
    marks: dict[str, Any] = field(default_factory=dict)
