"""The outcome of `launch.py compare`: tables in the terminal, or one JSON object."""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.score_display import LISTED_FAILURES
from cli.terminal import print_reasons
from evaluation.preference import NOT_CALIBRATED, PairedDifference, paired_difference, same
from evaluation.score_job import ScoreJob
from evaluation.versions import Comparison, Pair, Rated

_LISTED_CONTENTS, _EXPLAINED_CONTENTS = 30, 3


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print which version is better, how clearly, and the traces; of folders, also their statistics."""
    versions = comparison.versions
    if versions.of_folders:
        _print_folders(console, comparison)
    else:
        console.print(_traces(versions.names, comparison.rated[""]))
        for pair in comparison.pairs:
            console.print(_sentence(versions.names, pair), highlight=False, markup=False, soft_wrap=True)
    if comparison.pairs:
        console.print(NOT_CALIBRATED, style="dim", highlight=False)
    print_reasons(console, "failed", comparison.failures, LISTED_FAILURES, style="yellow")


def comparison_json(comparison: Comparison, job: ScoreJob) -> dict[str, Any]:
    """The comparison as JSON values. Numbers that are undefined are null."""
    versions = comparison.versions
    names = versions.names
    return {
        "checkpoint": job.checkpoint.name,
        "samples": job.samples,
        "versions": list(names),
        "order": None if versions.of_folders else order(comparison),
        "confidence_note": NOT_CALIBRATED,
        "pairs": [
            {
                "content": pair.content,
                "first": names[pair.first],
                "second": names[pair.second],
                "difference": round(pair.difference, 4),
                "confidence": round(pair.confidence, 4),
            }
            for pair in comparison.pairs
        ],
        "folders": [
            {
                "first": names[first],
                "second": names[second],
                "pairs": of.n,
                "first_better": of.better,
                "second_better": of.worse,
                "same": of.same,
                "sign_test_p": _defined(of.sign_test_p),
                "mean_difference": _defined(of.mean),
                "low": _defined(of.low),
                "high": _defined(of.high),
            }
            for first, second, of in _folder_statistics(comparison)
        ],
        "contents": [
            {"content": content, "videos": [_rated_json(rated) for rated in answers]}
            for content, answers in comparison.rated.items()
        ],
        "without_partner": list(versions.alone),
        "failed": [{"video": name, "failure": reason} for name, reason in comparison.failures],
    }


def order(comparison: Comparison) -> list[str]:
    """Names of single videos that could be compared, the best first."""
    rated = zip(comparison.versions.names, comparison.rated[""], strict=True)
    means = {name: one.mean for name, one in rated if one is not None and not one.failure}
    return sorted(means, key=lambda name: -means[name])


def _print_folders(console: Console, comparison: Comparison) -> None:
    versions = comparison.versions
    console.print(_contents(comparison))
    if len(comparison.rated) > _LISTED_CONTENTS:
        console.print(f"and {len(comparison.rated) - _LISTED_CONTENTS} more; --json prints all")
    widest = sorted(comparison.pairs, key=lambda pair: -abs(pair.difference))
    for content in list(dict.fromkeys(pair.content for pair in widest))[:_EXPLAINED_CONTENTS]:
        console.print(_traces(versions.names, comparison.rated[content], title=content))
    for first, second, of in _folder_statistics(comparison):
        console.print(
            _statistics(versions.names[first], versions.names[second], of),
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
    if versions.ignored:
        console.print(f"other files ignored: {versions.ignored}", highlight=False)
    alone = [(name, "no other folder has a video of this name") for name in versions.alone]
    print_reasons(console, "without a partner", alone, LISTED_FAILURES)


def _folder_statistics(comparison: Comparison) -> list[tuple[int, int, PairedDifference]]:
    """(first folder, second folder, statistics) of every two folders with a pair; empty for single videos."""
    versions = comparison.versions
    numbers = range(len(versions.names)) if versions.of_folders else ()
    return [
        (first, second, paired_difference([pair.difference for pair in pairs]))
        for first, second in combinations(numbers, 2)
        if (pairs := comparison.pairs_of(first, second))
    ]


def _contents(comparison: Comparison) -> Table:
    """Every content's scores, and of two folders the difference and its confidence."""
    names = comparison.versions.names
    table = Table("content", *map(escape, names), box=box.SIMPLE_HEAD, pad_edge=False)
    if len(names) == 2:
        table.add_column("difference", justify="right")
        table.add_column("confidence", justify="right")
    pairs = {pair.content: pair for pair in comparison.pairs}
    for content, answers in list(comparison.rated.items())[:_LISTED_CONTENTS]:
        pair = pairs.get(content)
        outcome = [f"{pair.difference:+.2f}", f"{_clear(pair):.2f}"] if pair else ["–", "–"]
        table.add_row(escape(content), *map(_samples, answers), *(outcome if len(names) == 2 else ()))
    return table


def _traces(names: Sequence[str], answers: Sequence[Rated | None], title: str = "") -> Table:
    """Scores and traces side by side."""
    shown = [(name, rated) for name, rated in zip(names, answers, strict=True) if rated is not None]
    table = Table(
        "", *(escape(name) for name, _ in shown), box=box.SIMPLE_HEAD, pad_edge=False,
        title=escape(title) or None, title_justify="left",
    )  # fmt: skip
    table.add_row("samples", *(_samples(rated) for _, rated in shown))
    table.add_row("greedy", *("–" if r.score is None else f"{r.score:.2f}" for _, r in shown))
    table.add_row("trace", *(escape(rated.failure or rated.trace) for _, rated in shown))
    return table


def _sentence(names: Sequence[str], pair: Pair) -> str:
    first, second = names[pair.first], names[pair.second]
    if same(pair.difference):
        return f"{first} and {second} are rated equal"
    if pair.difference < 0:
        first, second = second, first
    return (
        f"{first} is rated better than {second} by {abs(pair.difference):.2f}, "
        f"confidence {_clear(pair):.2f} (not calibrated)"
    )


def _statistics(first: str, second: str, of: PairedDifference) -> str:
    interval = "" if math.isnan(of.low) else f" (95 % interval {of.low:+.3f} to {of.high:+.3f})"
    p = "" if math.isnan(of.sign_test_p) else f", sign test p = {of.sign_test_p:.3g}"
    return (
        f"{first} against {second}, {of.n} pair{'s' if of.n != 1 else ''}: {of.better} better, "
        f"{of.worse} worse, {of.same} equal{p}; mean difference {of.mean:+.3f}{interval}"
    )


def _clear(pair: Pair) -> float:
    """The confidence in the better of the two, from 0.5 to 1."""
    return max(pair.confidence, 1 - pair.confidence)


def _samples(rated: Rated | None) -> str:
    if rated is None:
        return ""
    return "failed" if rated.failure else f"{rated.mean:.2f} ± {rated.spread:.2f}"


def _rated_json(rated: Rated | None) -> dict[str, Any] | None:
    if rated is None:
        return None
    return {
        "video": rated.video_id,
        "path": rated.path,
        "score": rated.score,
        "sample_mean": _defined(rated.mean),
        "sample_spread": _defined(rated.spread) if rated.samples else None,
        "samples": list(rated.samples),
        "trace": rated.trace,
        "failure": rated.failure,
    }


def _defined(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
