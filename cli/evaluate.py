"""Score test sets with models; print and write how well the scores agree with MOS (`launch.py evaluate`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cli.report_tables import print_report
from cli.score_display import ScoreProgress, print_origin
from cli.terminal import console
from data.manifest import manifest_hash
from data.tables import SUFFIXES
from data.urls import Location
from evaluation.asking_sets import Answers, SetsJob
from evaluation.comparison import report
from evaluation.models import resolve_checkpoint, scoring_settings
from evaluation.predictions import read_predictions
from evaluation.report_files import write_report
from evaluation.report_plots import plot_report
from evaluation.test_sets import read_sets
from runtime.errors import ConfigError


def evaluate(
    models: Sequence[str | None],
    manifests: Sequence[Path],
    splits: Sequence[str],
    headline_only: bool,
    root: Location | None,
    out: Path,
    score_scale: tuple[float, float] | None,
    bootstrap_samples: int,
    seed: int,
    scoring: dict[str, Any],
) -> None:
    """Evaluate one or two models; print the figures and write them into `out`.

    Args:
        models: names of checkpoints, as in `resolve_checkpoint`, or paths of tables of predictions, which are
            recognised by their suffix.
        manifests, splits, headline_only, root: as in `read_sets`.
        out: folder for answers, figures and plots.
        score_scale: as in `read_predictions`.
        bootstrap_samples, seed: number of bootstrap resamples for the intervals, and their seed.
        scoring: fields of ScoringSettings to override.
    Raises:
        ConfigError, TableError: for inputs that cannot be used, before an engine starts.
        ScoringFailed: if no video can be scored.
    """
    if score_scale is not None and score_scale[0] == score_scale[1]:
        raise ConfigError("--score-scale: the scores that mean 1 and 5 must differ")
    sets = read_sets(manifests, splits, headline_only, root, check_files=not all(map(_is_table, models)))
    jobs: dict[str, SetsJob | Answers] = {}
    depends_on: dict[str, Any] = {}
    for model in models:
        if model is not None and _is_table(model):
            name = model
            job: SetsJob | Answers = read_predictions(Path(model), sets, score_scale)
            own: dict[str, Any] = {"predictions": model, "score_scale": score_scale}
        else:
            checkpoint = resolve_checkpoint(model)
            name = checkpoint.name
            job = SetsJob(checkpoint, scoring_settings(checkpoint, **scoring), sets, out)
            own = job.settings
        if name in jobs:
            raise ConfigError(f"--compare {model}: this is {name} itself; name another model")
        jobs[name], depends_on[name] = job, own
    answers = {name: _ask(job) if isinstance(job, SetsJob) else job for name, job in jobs.items()}
    console.print(f"Taking {bootstrap_samples} resamples for the intervals", highlight=False)
    found = report(sets, answers, bootstrap_samples, seed)
    print_report(console, found)
    settings = {
        "manifests": {str(manifest): manifest_hash(manifest) for manifest in manifests},
        "splits": list(splits),
        "headline_only": headline_only,
        "bootstrap_samples": bootstrap_samples,
        "seed": seed,
        "models": depends_on,
    }
    write_report(found, settings, out)
    plot_report(found, out)
    console.print(f"Figures and plots: {out}", highlight=False, soft_wrap=True)


def _ask(job: SetsJob) -> Answers:
    def display(total: int, answered: int) -> ScoreProgress:
        if answered:
            console.print(f"{answered} of them have an answer in {job.folder}", highlight=False)
        return ScoreProgress(console, total, answered)

    print_origin(console, job.checkpoint, job.scoring, job.found)
    return job.ask(display)


def _is_table(name: str | None) -> bool:
    return name is not None and Path(name).suffix in SUFFIXES and not Path(name).is_dir()
