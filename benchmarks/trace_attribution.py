"""Whether a trace names the distortion that a clip really has, and says rightly how strong it is.

A trace names a kind if it holds that kind's noun and no other kind's; with none, or with several, it names
nothing and is wrong. A kind that the model has no word for (it never met it) is named rightly by the words of
its nearest kin, which the vocabulary states.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from demo.base_model.traces import PHRASES, STRENGTHS
from evaluation.statistics.correlation import srcc
from evaluation.statistics.intervals import interval, resamples

NOTHING, SEVERAL = "nothing", "several"
# Of a kind with fewer clips than this, one clip would decide about its share of the macro-F1.
FEWEST_CLIPS = 5


@dataclass(frozen=True)
class Vocabulary:
    """The words in which a model speaks of distortions.

    Attributes:
        nouns: by kind, the words that name it.
        strengths: words from the weakest to the strongest.
        counts_as: by kind without a noun, the kinds whose nouns name it rightly.
    """

    nouns: Mapping[str, str]
    strengths: Sequence[str]
    counts_as: Mapping[str, frozenset[str]]

    def right_answers(self, kind: str) -> frozenset[str]:
        """The kinds whose nouns are right for a clip of `kind`. Raises ValueError for an unknown kind."""
        if kind in self.nouns:
            return frozenset({kind})
        if kind not in self.counts_as:
            known = ", ".join([*self.nouns, *self.counts_as])
            raise ValueError(f"distortion '{kind}' has no word and counts as none; known are {known}")
        return self.counts_as[kind]

    def named(self, text: str) -> str:
        """The kind that a trace names, or NOTHING or SEVERAL."""
        kinds = {self._kind_of_noun[noun] for noun in self._nouns_pattern.findall(text.lower())}
        if len(kinds) > 1:
            return SEVERAL
        return kinds.pop() if kinds else NOTHING

    def strength(self, text: str) -> float:
        """How strong a trace calls the distortion: 0 for the weakest word; NaN without one, or with two."""
        words = set(self._strengths_pattern.findall(text.lower()))
        return float(list(self.strengths).index(words.pop())) if len(words) == 1 else np.nan

    @cached_property
    def _kind_of_noun(self) -> dict[str, str]:
        return {noun: kind for kind, noun in self.nouns.items()}

    @cached_property
    def _nouns_pattern(self) -> re.Pattern[str]:
        return _any_of(self._kind_of_noun)

    @cached_property
    def _strengths_pattern(self) -> re.Pattern[str]:
        return _any_of(self.strengths)


@dataclass(frozen=True, slots=True)
class Attribution:
    """How rightly the traces of `clips` speak, with 95 % intervals bootstrapped over sources.

    Attributes:
        accuracy: share of the clips whose trace names the right kind.
        macro_f1: mean of `f1` over the kinds with at least FEWEST_CLIPS clips.
        strength_srcc: Spearman's correlation of the strength word with the MOS, 1 where stronger words always
            go with a lower MOS; of the traces with one such word.
        constant_accuracy: the accuracy of the best trace that is the same for every clip.
        unnamed, without_strength: traces that name no kind or several; that have no strength word or several.
        f1: by kind.
        rows, columns, confusion: clips of each kind (row) by what their traces name (column).
    """

    clips: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    macro_f1_low: float
    macro_f1_high: float
    strength_srcc: float
    strength_srcc_low: float
    strength_srcc_high: float
    constant_accuracy: float
    unnamed: int
    without_strength: int
    f1: dict[str, float]
    rows: list[str]
    columns: list[str]
    confusion: list[list[int]]


def attribute(
    predictions: Sequence[Mapping[str, Any]], vocabulary: Vocabulary, samples: int = 1000, seed: int = 0
) -> Attribution:
    """Judge the traces of a run's predictions (`text`, `distortion`, `mos`, `source`, `headline`, `failure`).

    Clips that are left out of the headline figures are left out here: what does not show in the frames cannot
    be named.

    Raises ValueError if no clip is left, or for a distortion that `vocabulary` does not know.
    """
    judged = [p for p in predictions if p["headline"] and p["distortion"] and not p["failure"]]
    if not judged:
        raise ValueError("no prediction is of a clip with a known distortion: nothing to attribute")
    true = np.array([p["distortion"] for p in judged])
    named = np.array([vocabulary.named(p["text"]) for p in judged])
    strength = np.array([vocabulary.strength(p["text"]) for p in judged])
    mos = np.array([p["mos"] for p in judged])
    kinds = list(dict.fromkeys(true.tolist()))
    is_kind = np.array([true == kind for kind in kinds])
    says_kind = np.array([np.isin(named, list(vocabulary.right_answers(kind))) for kind in kinds])
    counted = is_kind.sum(1) >= FEWEST_CLIPS

    def figures(rows: np.ndarray) -> tuple[float, float, float]:
        f1 = _f1(is_kind[:, rows], says_kind[:, rows])
        known = rows[np.isfinite(strength[rows])]
        return (
            float((is_kind & says_kind)[:, rows].any(0).mean()),
            float(f1[counted].mean()) if counted.any() else np.nan,
            srcc(-strength[known], mos[known]),
        )

    accuracy, macro_f1, strength_srcc = figures(np.arange(len(judged)))
    sources = np.array([p["source"] or p["video_id"] for p in judged])
    draws = np.array([figures(rows) for rows in resamples(sources, samples, seed)]).reshape(-1, 3)
    intervals = [interval(draw) for draw in draws.T]
    columns = [*vocabulary.nouns, NOTHING, SEVERAL]
    return Attribution(
        len(judged), accuracy, *intervals[0], macro_f1, *intervals[1], strength_srcc, *intervals[2],
        constant_accuracy=max(
            float(np.mean([noun in vocabulary.right_answers(kind) for kind in true])) for noun in columns
        ),
        unnamed=int(np.isin(named, [NOTHING, SEVERAL]).sum()),
        without_strength=int(np.isnan(strength).sum()),
        f1=dict(zip(kinds, _f1(is_kind, says_kind).tolist(), strict=True)),
        rows=kinds,
        columns=columns,
        confusion=[[int(((true == kind) & (named == word)).sum()) for word in columns] for kind in kinds],
    )  # fmt: skip


def _f1(is_kind: np.ndarray, says_kind: np.ndarray) -> np.ndarray:
    """F1 of each kind, [kinds], of two bool arrays [kinds, clips]; 0 where a kind neither is nor is named."""
    hits = (is_kind & says_kind).sum(1)
    return 2 * hits / np.maximum(is_kind.sum(1) + says_kind.sum(1), 1)


def _any_of(words: Mapping[str, str] | Sequence[str]) -> re.Pattern[str]:
    """Finds whole words; of two that begin alike, the longer."""
    return re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(words, key=len, reverse=True))) + r")\b")


VOCABULARY = Vocabulary(
    nouns={kind: phrase.noun for kind, phrase in PHRASES.items()},
    strengths=STRENGTHS,
    # The demo's kinds that no model was shown: what a person who knows only the others would call them.
    counts_as={
        "av1": frozenset({"h264", "hevc"}),  # block compression
        "motion_blur": frozenset({"blur"}),
        "impulse": frozenset({"noise"}),
        "judder": frozenset({"freeze"}),
    },
)
"""The words of the tiny base."""
