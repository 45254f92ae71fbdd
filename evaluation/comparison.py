"""Evaluate the answers of one or two models on test sets: metrics, their means over sets, differences."""

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.statistics.metrics import (
    CORRELATIONS,
    NAMES,
    Average,
    Difference,
    Figures,
    average,
    average_difference,
    difference,
    measure_agreement,
)
from evaluation.test_sets import LabelledSet


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's score for one video. `score` is None if the answer does not parse, or if there is no answer;
    `failure` then says why."""

    score: float | None
    failure: str = ""


Answers = Mapping[str, Answer]
"""A model's answers on one set, by video_id."""


@dataclass(frozen=True, slots=True)
class SetResult:
    """The result of one model on one set.

    `figures` compare `predicted` [n] with `labels` [n]. The n videos are those that the model scored or, in a
    comparison, those that both models scored. `videos` and `unparsed` count the whole set. `failures` maps
    each video_id without an answer to the reason.
    """

    model: str
    of: LabelledSet
    predicted: np.ndarray
    labels: np.ndarray
    figures: Figures
    videos: int
    unparsed: int
    failures: Mapping[str, str]

    @property
    def unparsed_share(self) -> float:
        """Share of unparsed answers among all answers; NaN if there are no answers."""
        answered = self.videos - len(self.failures)
        return self.unparsed / answered if answered else np.nan


@dataclass(frozen=True, slots=True)
class Means:
    """The mean of each correlation over the test sets, for one model."""

    model: str
    weighted: bool
    n: int
    of: Mapping[str, Average]

    @property
    def name(self) -> str:
        return "weighted mean" if self.weighted else "plain mean"


@dataclass(frozen=True, slots=True)
class Report:
    """All results of one command.

    `results` is indexed by set and model, in the order of the command; `means` is indexed by model.
    `differences` holds the first model minus the second, indexed by set and figure; with several sets it also
    has an entry for each mean. It is empty if there is one model.
    """

    results: Mapping[str, Mapping[str, SetResult]]
    means: Mapping[str, Sequence[Means]]
    differences: Mapping[str, Mapping[str, Difference]]


def report(
    sets: Sequence[LabelledSet], answers: Mapping[str, Mapping[str, Answers]], samples: int, seed: int
) -> Report:
    """Evaluate one or two models on every set.

    Args:
        answers: the answers, by model and set name.
        samples, seed: number of bootstrap resamples for the intervals, and their seed.
    """
    models = list(answers)
    results = {
        of.name: evaluate_set(of, {m: answers[m].get(of.name, {}) for m in models}, samples, seed)
        for of in sets
    }
    means = {m: means_over([by_model[m] for by_model in results.values()]) for m in models}
    return Report(results, means, _differences(results, means) if len(models) == 2 else {})


def evaluate_set(
    of: LabelledSet, answers: Mapping[str, Answers], samples: int, seed: int
) -> dict[str, SetResult]:
    """Evaluate models on one set, on the videos that all of them score.

    Args:
        answers: the answers, by model. A video without an answer counts as failed.
        samples, seed: number of bootstrap resamples for the intervals, and their seed.
    """
    nothing = Answer(None, "no prediction")
    scored = [
        video
        for video in of.videos
        if all(given.get(video.video_id, nothing).score is not None for given in answers.values())
    ]
    labels = of.labels(scored)
    sources = np.array([video.source or video.video_id for video in scored])
    # Seed each set differently: with a shared seed, sets with the same number of sources would draw the same
    # resamples, which biases the intervals of their means.
    seeds = (seed, zlib.crc32(of.name.encode()))
    results = {}
    for model, given in answers.items():
        predicted = np.array([given[video.video_id].score for video in scored], dtype=float)
        everything = {video.video_id: given.get(video.video_id, nothing) for video in of.videos}
        results[model] = SetResult(
            model=model,
            of=of,
            predicted=predicted,
            labels=labels,
            figures=measure_agreement(
                predicted, labels, sources, of.scale, rank_only=of.rank_only, samples=samples, seed=seeds
            ),
            videos=len(of.videos),
            unparsed=sum(1 for a in everything.values() if a.score is None and not a.failure),
            failures={name: answer.failure for name, answer in everything.items() if answer.failure},
        )
    return results


def means_over(results: Sequence[SetResult]) -> list[Means]:
    """Average one model's correlations over its sets: plain, and weighted by the number of videos.

    RMSE is not averaged, because each set has its own scale.
    """
    figures = {result.of.name: result.figures for result in results}
    return [
        Means(
            model=results[0].model,
            weighted=weighted,
            n=sum(result.figures.n for result in results),
            of={name: average(figures, name, weighted) for name in CORRELATIONS},
        )
        for weighted in (False, True)
    ]


def _differences(
    results: Mapping[str, Mapping[str, SetResult]], means: Mapping[str, Sequence[Means]]
) -> dict[str, dict[str, Difference]]:
    """Subtract the second model's figures from the first model's, for each set and mean."""
    first, second = means
    found = {
        name: difference(by_model[second].figures, by_model[first].figures)
        for name, by_model in results.items()
    }
    if len(results) > 1:
        for one, other in zip(means[first], means[second], strict=True):
            found[one.name] = {
                name: average_difference(other.of[name], one.of[name]) for name in CORRELATIONS
            }
    return found


def report_notes(report: Report) -> Iterator[tuple[str, str, str, str]]:
    """Yield (model, set, figure or topic, note) for undefined figures, doubtful fits and failed videos."""
    for name, by_model in report.results.items():
        for model, result in by_model.items():
            for what, note in result.figures.notes.items():
                yield model, name, what, note
            if result.failures:
                first, reason = next(iter(result.failures.items()))
                yield model, name, "failed", f"{len(result.failures)} videos, the first is {first}: {reason}"
    if len(report.results) == 1:
        return
    for model, (means, _) in report.means.items():
        for missing in sorted({tuple(mean.missing) for mean in means.of.values() if mean.missing}):
            figures = [NAMES[name] for name, mean in means.of.items() if tuple(mean.missing) == missing]
            yield model, "means", ", ".join(figures), f"without {', '.join(missing)}, where undefined"


def number(value: float, digits: int = 3) -> str:
    """Format a figure; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
