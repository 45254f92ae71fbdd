"""Commands that ask a model about videos: score, evaluate, ask, quiz."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.terminal import (
    Checkpoint,
    DecoderName,
    Exact,
    Frames,
    GpusPerReplica,
    MaxPx,
    MaxTokens,
    Replicas,
    TrustRemoteCode,
    console,
    failure,
    progress,
)
from runtime.errors import ConfigError


def score(
    videos: Annotated[
        list[str],
        typer.Argument(
            metavar="VIDEO|FOLDER|MANIFEST...", help="files, folders, tables with a column `path`"
        ),
    ],
    checkpoint: Checkpoint = None,
    samples: Annotated[int, typer.Option(min=0, help="sampled answers for each video, for the spread")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="append to this .csv, .jsonl or .parquet; the same command again goes on with it"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object a video")] = False,
    root: Annotated[
        Path | None, typer.Option(help="folder of the videos of tables; default: the table's")
    ] = None,
    timeline: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="score one video in windows of this length")
    ] = None,
    frames: Frames = None,
    max_px: MaxPx = None,
    max_tokens: MaxTokens = None,
    temperature: Annotated[float | None, typer.Option(help="of samples; default: the model's")] = None,
    seed: Annotated[int, typer.Option(min=0, help="seed of samples")] = 0,
    decoder: DecoderName = "auto",
    replicas: Replicas = None,
    gpus_per_replica: GpusPerReplica = None,
    exact: Exact = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Score videos from 1 (very poor) to 5 (excellent), with reasons. docs/scoring.md explains."""
    from cli.score import score as run
    from evaluation.score_job import read_score_job
    from evaluation.settings import ScoringFailed

    overrides = {
        "frames_per_video": frames, "max_frame_px": max_px, "max_completion_tokens": max_tokens,
        "temperature": temperature, "seed": seed, "decoder": decoder, "replicas": replicas,
        "gpus_per_replica": gpus_per_replica, "exact": exact, "trust_remote_code": trust_remote_code,
    }  # fmt: skip
    notes = Console(stderr=True) if as_json else console
    try:
        job = read_score_job(videos, checkpoint, samples, out, as_json, timeline, root, **overrides)
        complete = run(job, console, notes)
    except ScoringFailed as error:
        raise failure(str(error)) from None
    if not complete:
        raise typer.Exit(1)


def evaluate(
    manifests: Annotated[list[Path], typer.Argument(metavar="MANIFEST...", help="labelled test sets")],
    checkpoint: Checkpoint = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="judge this table instead, of any method: columns path (or video_id) and score"),
    ] = None,
    compare: Annotated[
        str | None, typer.Option(help="a second checkpoint or table of predictions, on the same videos")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder of answers, figures and plots")] = Path("runs/evaluation"),
    split: Annotated[
        list[str] | None,
        typer.Option(help="rows to judge, each split by itself; default: test if there are any, else all"),
    ] = None,
    headline_only: Annotated[
        bool, typer.Option("--headline-only", help="leave out rows whose headline is false")
    ] = False,
    root: Annotated[Path | None, typer.Option(help="folder of the videos; default: the manifest's")] = None,
    score_scale: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="what the scores of tables run from and to; default: 1 5"),
    ] = None,
    bootstrap_samples: Annotated[int, typer.Option(min=100, help="resamples behind the intervals")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="seed of the resamples")] = 0,
    frames: Frames = None,
    max_px: MaxPx = None,
    max_tokens: MaxTokens = None,
    decoder: DecoderName = "auto",
    replicas: Replicas = None,
    gpus_per_replica: GpusPerReplica = None,
    exact: Exact = False,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Judge a model on test sets: SRCC, KRCC, PLCC, RMSE with intervals. docs/evaluation.md explains.

    The same command again goes on where it was stopped.
    """
    from cli.evaluate import EvaluateOptions
    from cli.evaluate import evaluate as run
    from evaluation.settings import ScoringFailed

    if checkpoint is not None and predictions is not None:
        raise ConfigError("--checkpoint and --predictions: give one, and the other as --compare")
    scoring = {
        "frames_per_video": frames, "max_frame_px": max_px, "max_completion_tokens": max_tokens,
        "decoder": decoder, "replicas": replicas, "gpus_per_replica": gpus_per_replica, "exact": exact,
        "trust_remote_code": trust_remote_code,
    }  # fmt: skip
    options = EvaluateOptions(
        manifests=manifests, predictions=predictions, checkpoint=checkpoint, other=compare, out=out,
        splits=split or (), headline_only=headline_only, root=root, score_scale=score_scale,
        bootstrap_samples=bootstrap_samples, seed=seed, scoring=scoring,
    )  # fmt: skip
    try:
        run(options, console)
    except ScoringFailed as error:
        raise failure(str(error)) from None


def ask(
    video: Annotated[Path, typer.Argument(metavar="VIDEO")],
    question: Annotated[str, typer.Argument(metavar="QUESTION")],
    beside: Annotated[
        Path | None, typer.Option(help="a second video, for questions that compare two")
    ] = None,
    checkpoint: Checkpoint = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
    frames: Annotated[int | None, typer.Option(min=1, help="frames to look at; default: the model's")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="of the answer; default: the model's")] = None,
    temperature: Annotated[float, typer.Option(min=0, help="0 gives the most likely words")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="seed of the answer, above temperature 0")] = 0,
    gpus: Annotated[
        int | None, typer.Option(min=0, help="of the engine; default: 1 if there are any")
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Ask a model about a video. docs/understanding.md explains."""
    from cli.ask import ask_once
    from data.video_file import VideoError
    from evaluation.settings import ScoringFailed
    from rollout.errors import RolloutFailed

    videos = [video] if beside is None else [video, beside]
    try:
        ask_once(
            console, videos, question, checkpoint, temperature, as_json,
            frames_per_video=frames, max_completion_tokens=max_tokens, seed=seed, gpus_per_replica=gpus,
            trust_remote_code=trust_remote_code,
        )  # fmt: skip
    except (ScoringFailed, VideoError, RolloutFailed) as error:
        raise failure(str(error)) from None


def quiz(
    name: Annotated[
        str, typer.Argument(metavar="SET", help="q-bench-video, finevq, omnivqa-fg or vqa2-levels")
    ],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="the set's files of questions")],
    videos: Annotated[Path, typer.Option(help="folder of the set's videos")],
    out: Annotated[
        Path | None,
        typer.Option(help="folder of the answers; default: one under runs/; the same command goes on in it"),
    ] = None,
    checkpoint: Checkpoint = None,
    frames: Frames = None,
    max_tokens: MaxTokens = None,
    decoder: DecoderName = "auto",
    replicas: Replicas = None,
    gpus_per_replica: GpusPerReplica = None,
    exact: Exact = False,
    judge_url: Annotated[
        str | None, typer.Option(help="OpenAI-compatible endpoint that judges open answers: https://host/v1")
    ] = None,
    judge_model: Annotated[str, typer.Option(help="its model")] = "gpt-4o",
    judge_key_env: Annotated[
        str | None, typer.Option(help="environment variable that holds its key", show_default=False)
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
) -> None:
    """Put a set of questions to a model: accuracy by kind of question. docs/understanding.md explains."""
    from cli.report_tables import print_results
    from evaluation.quiz.llm_judge import JudgeError, judge_from
    from evaluation.quiz.run import read_quiz_job, run_quiz
    from evaluation.settings import ScoringFailed

    judge = judge_from(judge_url, judge_model, judge_key_env)
    job = read_quiz_job(
        name, files, videos, out, checkpoint,
        frames_per_video=frames, max_completion_tokens=max_tokens, decoder=decoder, replicas=replicas,
        gpus_per_replica=gpus_per_replica, exact=exact, trust_remote_code=trust_remote_code,
    )  # fmt: skip
    console.print(f"{len(job.items)} questions for {job.checkpoint.name}", highlight=False, markup=False)
    try:
        results = run_quiz(job, judge, progress)
    except (ScoringFailed, JudgeError) as error:
        raise failure(str(error)) from None
    print_results(console, f"{name}: {job.checkpoint.name}", results)
    console.print(f"Answers and results: {job.out}", highlight=False, soft_wrap=True)
