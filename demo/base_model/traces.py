"""Generate the answers to train the tiny base model on: a sentence that names distortion and strength, and a
score.

The word for the strength is right: it follows the perceived quality. The score in the warm start is
systematically wrong, like that of a model that describes what it sees but does not know the scale: every
distortion kind has an offset, the scale is compressed, and noise is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

MIN_SCORE, MAX_SCORE = 1.0, 5.0
# One word per fifth of the scale, from the best to the worst.
STRENGTHS = ("faint", "slight", "moderate", "strong", "severe")


@dataclass(frozen=True, slots=True)
class Phrase:
    """The words for one kind of distortion."""

    noun: str
    effect: str


PHRASES: dict[str, Phrase] = {
    "h264": Phrase("blocking from compression", "edges look broken"),
    "hevc": Phrase("smearing from compression", "textures are washed out"),
    "blur": Phrase("blur", "edges are soft"),
    "noise": Phrase("noise", "flat areas look grainy"),
    "rescale": Phrase("upscaling", "fine detail is lost"),
    "exposure": Phrase("exposure error", "tones are clipped"),
    "freeze": Phrase("freezing", "motion halts"),
}
TEMPLATES = (
    "{Strength} {noun}, {effect}.",
    "The video shows {strength} {noun}.",
    "{Effect}, with {strength} {noun}.",
)

# Offsets of the scores in the warm start, by distortion kind. GRPO has to correct them.
SCORE_OFFSETS: dict[str, float] = {
    "h264": -1.0,
    "hevc": -0.6,
    "blur": 1.1,
    "noise": -0.9,
    "rescale": 0.3,
    "exposure": 0.9,
    "freeze": 0.4,
}
SCORE_SQUEEZE = 0.5
SCORE_SPREAD = 0.5


def strength_index(mos: float) -> int:
    """The fifth of the scale that contains `mos` (1 to 5), counted from the top: 0 (faint) to 4 (severe)."""
    return min(len(STRENGTHS) - 1, max(0, int((MAX_SCORE - mos) / (MAX_SCORE - MIN_SCORE) * len(STRENGTHS))))


def thought(kind: str, mos: float, template: int) -> str:
    """The sentence between the think tags.

    Raises:
        ValueError: for a kind that has no phrase.
    """
    if kind not in PHRASES:
        raise ValueError(f"distortion kind {kind!r} has no phrase: add it to PHRASES in {__name__}")
    strength, phrase = STRENGTHS[strength_index(mos)], PHRASES[kind]
    return TEMPLATES[template].format(
        strength=strength,
        Strength=strength.capitalize(),
        noun=phrase.noun,
        effect=phrase.effect,
        Effect=phrase.effect.capitalize(),
    )


def completion(kind: str, mos: float, score: float, template: int) -> str:
    """The whole answer: the sentence, and the score clipped to 1 to 5, with two decimals."""
    clipped = min(MAX_SCORE, max(MIN_SCORE, score))
    return f"<think>{thought(kind, mos, template)}</think><answer>{clipped:.2f}</answer>"


def miscalibrated_score(kind: str, mos: float, rng: np.random.Generator) -> float:
    """The unclipped score that the warm start teaches for a clip of quality `mos`."""
    middle = (MIN_SCORE + MAX_SCORE) / 2
    return middle + SCORE_SQUEEZE * (mos - middle) + SCORE_OFFSETS[kind] + SCORE_SPREAD * rng.normal()


def corpus() -> list[str]:
    """All possible traces, each with a score, as training data for the tokenizer."""
    levels = np.linspace(MAX_SCORE - 0.1, MIN_SCORE + 0.1, len(STRENGTHS))
    return [
        completion(kind, float(mos), float(mos), template)
        for kind, mos, template in product(PHRASES, levels, range(len(TEMPLATES)))
    ]
