"""`launch.py evaluate`: which sets, which models, and where the figures go."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from cli.report_tables import print_report
from cli.score_display import ScoreProgress, print_origin
from data.manifest import manifest_hash
from data.tables import SUFFIXES, check_table_name
from evaluation.asking_sets import Questions
from evaluation.comparison import Answer, report
from evaluation.models import resolve_checkpoint, scoring_settings
from evaluation.predictions import read_predictions
from evaluation.report_files import write_report
from evaluation.report_plots import plot_report
from evaluation.test_sets import LabelledSet, read_sets
from runtime.errors import ConfigError


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """What a user asks for.

    Judged is the table `predictions`, else `checkpoint` as in `resolve_checkpoint`; `other`, if anything is
    compared, is a checkpoint too, or a table, told by its suffix. `scoring` are overrides of ScoringSettings.
    """

    manifests: Sequence[Path]
    predictions: Path | None
    checkpoint: str | None
    other: str | None
    out: Path
    splits: Sequence[str]
    headline_only: bool
    root: Path | None
    score_scale: tuple[float, float] | None
    bootstrap_samples: int
    seed: int
    scoring: dict[str, Any]


def evaluate(options: EvaluateOptions, console: Console) -> None:
    """Judge one or two models; prints the figures and writes them into `options.out`.

    Raises ConfigError or TableError for inputs that cannot be used, before an engine starts, and
    ScoringFailed.
    """
    if options.predictions is not None:
        check_table_name(options.predictions)
    judged = options.checkpoint if options.predictions is None else str(options.predictions)
    names = [judged] if options.other is None else [judged, options.other]
    if options.score_scale is not None and options.score_scale[0] == options.score_scale[1]:
        raise ConfigError("--score-scale: the scores that mean 1 and 5 must differ")
    sets = read_sets(
        options.manifests,
        options.splits,
        options.headline_only,
        options.root,
        check_files=not all(map(_is_table, names)),
    )
    models: dict[str, Questions | dict[str, dict[str, Answer]]] = {}
    settings: dict[str, Any] = {}
    for asked in names:
        shown, model, depends_on = _read_model(asked, sets, options)
        if shown in models:
            raise ConfigError(f"--compare {options.other}: this is what it would be compared with, {shown}")
        models[shown], settings[shown] = model, depends_on
    answers = {
        name: _ask(model, console) if isinstance(model, Questions) else model
        for name, model in models.items()
    }
    console.print(f"Taking {options.bootstrap_samples} resamples for the intervals", highlight=False)
    found = report(sets, answers, options.bootstrap_samples, options.seed)
    print_report(console, found)
    write_report(found, _settings(options) | {"models": settings}, options.out)
    plot_report(found, options.out)
    console.print(f"Figures and plots: {options.out}", highlight=False, soft_wrap=True)


def _ask(questions: Questions, console: Console) -> dict[str, dict[str, Answer]]:
    def display(total: int, answered: int) -> ScoreProgress:
        if answered:
            console.print(f"{answered} of them have an answer in {questions.folder}", highlight=False)
        return ScoreProgress(console, total, answered)

    print_origin(console, questions.checkpoint, questions.scoring, questions.found)
    return questions.ask(display)


def _read_model(
    name: str | None, sets: Sequence[LabelledSet], options: EvaluateOptions
) -> tuple[str, Any, dict[str, Any]]:
    """(name to show, Questions or the answers themselves, what they depend on)."""
    if name is not None and _is_table(name):
        given = read_predictions(Path(name), sets, options.score_scale)
        return name, given, {"predictions": name, "score_scale": options.score_scale}
    checkpoint = resolve_checkpoint(name)
    questions = Questions(checkpoint, scoring_settings(checkpoint, **options.scoring), sets, options.out)
    return checkpoint.name, questions, questions.settings


def _is_table(name: str | None) -> bool:
    return name is not None and Path(name).suffix in SUFFIXES and not Path(name).is_dir()


def _settings(options: EvaluateOptions) -> dict[str, Any]:
    return {
        "manifests": {str(manifest): manifest_hash(manifest) for manifest in options.manifests},
        "splits": list(options.splits),
        "headline_only": options.headline_only,
        "bootstrap_samples": options.bootstrap_samples,
        "seed": options.seed,
    }
