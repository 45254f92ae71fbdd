"""The commands that ask a model about videos: score, compare, evaluate, ask, quiz.

Parameters with the name of a field of ScoringSettings, such as `frames_per_video`, are not used by name here:
`scoring_options` copies them from the context to the settings.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cli.options import (
    AsVideo,
    CacheDir,
    CacheGb,
    Checkpoint,
    DecoderName,
    End,
    Exact,
    FetchTimeout,
    FrameRate,
    Frames,
    GpusPerReplica,
    MaxPx,
    MaxTokens,
    Replicas,
    Start,
    Strict,
    TrustRemoteCode,
    scoring_options,
)
from cli.terminal import console, progress
from data.urls import location
from runtime.errors import ConfigError


def score(
    context: typer.Context,
    videos: Annotated[
        list[str],
        typer.Argument(
            metavar="VIDEO|FOLDER|MANIFEST...",
            help="videos, folders of videos, tables with column `path`, or URLs of them",
        ),
    ],
    checkpoint: Checkpoint = None,
    samples: Annotated[
        int, typer.Option(min=0, help="sampled answers per video, to measure their spread")
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="write scores to this .csv, .jsonl or .parquet file; repeat the command to resume"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object per video")] = False,
    root: Annotated[
        Any,
        typer.Option(
            parser=location,
            metavar="PATH|URL",
            help="folder of the videos that tables name; default: the table's",
        ),
    ] = None,
    timeline: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="score one video in windows of this length")
    ] = None,
    start: Start = None,
    end: End = None,
    as_video: AsVideo = False,
    frame_rate: FrameRate = None,
    frames_per_video: Frames = None,
    max_frame_px: MaxPx = None,
    max_completion_tokens: MaxTokens = None,
    temperature: Annotated[
        float | None, typer.Option(help="temperature of sampled answers; default: the model's")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="seed of sampled answers")] = 0,
    decoder: DecoderName = "auto",
    strict: Strict = False,
    replicas: Replicas = None,
    gpus_per_replica: GpusPerReplica = None,
    exact: Exact = False,
    cache_gb: CacheGb = None,
    cache_dir: CacheDir = None,
    fetch_timeout_s: FetchTimeout = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Score videos from 1 (very poor) to 5 (excellent), with the model's reasoning. See docs/scoring.md."""
    from cli.score import score as run
    from evaluation.inputs import frame_rate_of, window_of
    from evaluation.score_job import read_score_job

    job = read_score_job(
        videos, checkpoint, samples, timeline, root, window_of(start, end),
        frame_rate_of(as_video, frame_rate), **scoring_options(context),
    )  # fmt: skip
    if not run(job, out, as_json, console, Console(stderr=True) if as_json else console):
        raise typer.Exit(1)


def compare(
    context: typer.Context,
    versions: Annotated[
        list[str],
        typer.Argument(
            metavar="A B [C...]", help="videos of one content, or folders of videos of equal names"
        ),
    ],
    checkpoint: Checkpoint = None,
    samples: Annotated[int, typer.Option(min=2, help="sampled answers per video, to measure the spread")] = 8,
    out: Annotated[
        Path | None,
        typer.Option(help="keep the scores in this .csv, .jsonl or .parquet file; repeat to resume"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="draw frames, scores and traces; of folders, the differences"),
    ] = None,
    start: Start = None,
    end: End = None,
    as_video: AsVideo = False,
    frame_rate: FrameRate = None,
    frames_per_video: Frames = None,
    max_frame_px: MaxPx = None,
    max_completion_tokens: MaxTokens = None,
    temperature: Annotated[
        float | None, typer.Option(help="temperature of sampled answers; default: the model's")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="seed of sampled answers")] = 0,
    decoder: DecoderName = "auto",
    strict: Strict = False,
    replicas: Replicas = None,
    gpus_per_replica: GpusPerReplica = None,
    exact: Exact = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Compare versions of a content: which is better, how clearly, and why. See docs/scoring.md.

    Of folders, videos of equal names are compared; repeat the command with --out to resume it.
    """
    from cli.compare import compare as run
    from evaluation.inputs import frame_rate_of, window_of
    from evaluation.versions import read_compare_job

    found, job = read_compare_job(
        versions, checkpoint, samples, window_of(start, end), frame_rate_of(as_video, frame_rate),
        **scoring_options(context),
    )  # fmt: skip
    if not run(found, job, out, picture, as_json, console, Console(stderr=True) if as_json else console):
        raise typer.Exit(1)


def evaluate(
    context: typer.Context,
    manifests: Annotated[list[Path], typer.Argument(metavar="MANIFEST...", help="labelled test sets")],
    checkpoint: Checkpoint = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="evaluate this table instead of a checkpoint; columns: path (or video_id), score"),
    ] = None,
    compare: Annotated[
        str | None, typer.Option(help="second checkpoint or table of scores, compared on the same videos")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder for answers, figures, plots")] = Path("runs/evaluation"),
    split: Annotated[
        list[str] | None,
        typer.Option(help="split to evaluate, may be repeated; default: test if there is one, else all rows"),
    ] = None,
    headline_only: Annotated[
        bool, typer.Option("--headline-only", help="leave out rows whose headline is false")
    ] = False,
    root: Annotated[
        Any,
        typer.Option(
            parser=location, metavar="PATH|URL", help="folder of the videos; default: the manifest's folder"
        ),
    ] = None,
    score_scale: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="scale of the scores in tables; default: 1 5"),
    ] = None,
    bootstrap_samples: Annotated[int, typer.Option(min=100, help="bootstrap resamples for intervals")] = 2000,
    bootstrap_seed: Annotated[int, typer.Option("--seed", min=0, help="seed of the resamples")] = 0,
    frames_per_video: Frames = None,
    max_frame_px: MaxPx = None,
    max_completion_tokens: MaxTokens = None,
    decoder: DecoderName = "auto",
    strict: Strict = False,
    replicas: Replicas = None,
    gpus_per_replica: GpusPerReplica = None,
    exact: Exact = False,
    cache_gb: CacheGb = None,
    cache_dir: CacheDir = None,
    fetch_timeout_s: FetchTimeout = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Evaluate a model on test sets: SRCC, KRCC, PLCC, RMSE with intervals. See docs/evaluation.md.

    Repeat the same command to resume it.
    """
    from cli.evaluate import evaluate as run
    from data.tables import check_table_name

    if checkpoint is not None and predictions is not None:
        raise ConfigError("--checkpoint and --predictions: give only one, and the other as --compare")
    if predictions is not None:
        check_table_name(predictions)
    first = checkpoint if predictions is None else str(predictions)
    models = [first] if compare is None else [first, compare]
    run(
        models, manifests, split or (), headline_only, root, out, score_scale, bootstrap_samples,
        bootstrap_seed, scoring_options(context),
    )  # fmt: skip


def ask(
    context: typer.Context,
    video: Annotated[
        Path,
        typer.Argument(metavar="VIDEO", help="video file; with --as-video, a folder of pictures"),
    ],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="question in plain words")],
    beside: Annotated[Path | None, typer.Option(help="second video, for questions that compare two")] = None,
    checkpoint: Checkpoint = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
    frames_per_video: Frames = None,
    start: Start = None,
    end: End = None,
    as_video: AsVideo = False,
    frame_rate: FrameRate = None,
    max_completion_tokens: MaxTokens = None,
    answer_temperature: Annotated[
        float, typer.Option("--temperature", min=0, help="temperature of the answer; 0 is greedy")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="seed of the answer if the temperature is above 0")] = 0,
    gpus_per_replica: Annotated[
        int | None, typer.Option("--gpus", min=0, help="GPUs of the engine; default: 1 if available, else 0")
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Ask a model a question about a video. See docs/understanding.md."""
    from cli.ask import ask_once
    from evaluation.inputs import frame_rate_of, window_of

    ask_once(
        [video] if beside is None else [video, beside], question, checkpoint, answer_temperature, as_json,
        window_of(start, end), frame_rate_of(as_video, frame_rate), **scoring_options(context),
    )  # fmt: skip


def quiz(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="SET", help="quiz set: q-bench-video, finevq, omnivqa-fg or vqa2-levels")
    ],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="question files of the set")],
    videos: Annotated[Path, typer.Option(help="folder of the set's videos")],
    out: Annotated[
        Path | None,
        typer.Option(help="output folder; default: a folder under runs/; repeat the command to resume"),
    ] = None,
    checkpoint: Checkpoint = None,
    frames_per_video: Frames = None,
    max_completion_tokens: MaxTokens = None,
    decoder: DecoderName = "auto",
    replicas: Replicas = None,
    gpus_per_replica: GpusPerReplica = None,
    exact: Exact = False,
    judge_url: Annotated[
        str | None,
        typer.Option(help="OpenAI-compatible endpoint of an LLM that grades open answers: https://host/v1"),
    ] = None,
    judge_model: Annotated[str, typer.Option(help="model to request from that endpoint")] = "gpt-4o",
    judge_key_env: Annotated[
        str | None, typer.Option(help="environment variable with the endpoint's key", show_default=False)
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Ask a model the questions of a public quiz set and report its accuracy. See docs/understanding.md."""
    from cli.report_tables import print_results
    from evaluation.quiz.llm_judge import judge_from
    from evaluation.quiz.run import read_quiz_job, run_quiz

    judge = judge_from(judge_url, judge_model, judge_key_env)
    job = read_quiz_job(name, files, videos, out, checkpoint, **scoring_options(context))
    console.print(f"{len(job.items)} questions for {job.checkpoint.name}", highlight=False, markup=False)
    print_results(console, f"{name}: {job.checkpoint.name}", run_quiz(job, judge, progress))
    console.print(f"Answers and results: {job.out}", highlight=False, soft_wrap=True)
