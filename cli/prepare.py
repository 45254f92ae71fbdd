"""The commands that make manifests: `launch.py prepare`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cli.terminal import console, progress
from data.benchmarks.labels import Columns
from data.benchmarks.sets import BENCHMARKS, Benchmark
from data.config import DataConfig

prepare = typer.Typer(
    help="Make a manifest: of a benchmark's labels and its videos, or of videos without labels.",
    no_args_is_help=True,
)
LabelFile = Annotated[Path, typer.Option(help="the set's label file")]
VideosFolder = Annotated[Path, typer.Option(help="folder that holds the videos, in whatever sub-folders")]
ManifestFile = Annotated[Path, typer.Option(help="manifest to write: .parquet, .csv or .jsonl")]
ScaleEnds = Annotated[
    tuple[float, float] | None, typer.Option(help="labels of the worst and of the best possible video")
]
Check = Annotated[
    Literal["open", "exists", "decode"],
    typer.Option(help="open every file, only see that it is there, or decode what a run would look at"),
]
Workers = Annotated[int, typer.Option(help="processes", min=1)]
OpenTimeout = Annotated[float, typer.Option(help="deadline of one file")]
_DATA = DataConfig()


def _add_benchmark(benchmark: Benchmark) -> None:
    @prepare.command(benchmark.name, help=benchmark.title)
    def command(
        labels: LabelFile,
        videos: VideosFolder,
        out: ManifestFile,
        scale: ScaleEnds = None,
        split: Annotated[str, typer.Option(help="of all rows")] = benchmark.split,
        label_set: Annotated[str, typer.Option(help="of all rows")] = benchmark.name,
        check: Check = "open",
        workers: Workers = 2,
        timeout_s: OpenTimeout = 30.0,
    ) -> None:
        _prepare(
            benchmark,
            (labels, videos, out),
            scale=scale,
            split=split,
            label_set=label_set,
            check=check,
            processes=workers,
            timeout_s=timeout_s,
        )


for _benchmark in BENCHMARKS.values():
    _add_benchmark(_benchmark)


@prepare.command("table")
def prepare_table(
    labels: Annotated[Path, typer.Option(help="table of labels: .csv, .jsonl, .json, .parquet or .mat")],
    videos: VideosFolder,
    out: ManifestFile,
    path_column: Annotated[str, typer.Option(help="column of the files' names")] = "path",
    mos_column: Annotated[str, typer.Option(help="column of the labels")] = "mos",
    split_column: Annotated[str, typer.Option(help="column of the splits", show_default="none")] = "",
    source_column: Annotated[str, typer.Option(help="column of the contents", show_default="none")] = "",
    scale: ScaleEnds = None,
    rank_only: Annotated[bool, typer.Option("--rank-only", help="the labels are an order, no scale")] = False,
    split: Annotated[str | None, typer.Option(help="of all rows", show_default="train")] = None,
    label_set: Annotated[str | None, typer.Option(help="of all rows", show_default="file's name")] = None,
    check: Check = "open",
    workers: Workers = 2,
    timeout_s: OpenTimeout = 30.0,
) -> None:
    """Any table with a row a video."""
    columns = Columns((path_column,), (mos_column,), split_column, source_column)
    _prepare(
        Benchmark(labels.stem, "", "train", scale=None, columns=columns),
        (labels, videos, out),
        scale=scale,
        rank_only=rank_only,
        split=split,
        label_set=label_set,
        check=check,
        processes=workers,
        timeout_s=timeout_s,
    )


@prepare.command("ladder")
def prepare_ladder(
    folder: Annotated[Path, typer.Argument(help="folder of videos that need no labels")],
    out: Annotated[Path, typer.Option(help="folder of the clips and their manifest")],
    kind: Annotated[
        list[str] | None, typer.Option(help="distortion; more than once for several", show_default="seven")
    ] = None,
    rungs: Annotated[int, typer.Option(help="clips a ladder")] = 5,
    seconds: Annotated[float, typer.Option(help="length of a clip, out of the video's middle")] = 2.0,
    max_px: Annotated[int, typer.Option(help="longest side of a clip")] = 256,
    split: Annotated[str, typer.Option(help="of all rows")] = "train",
    seed: Annotated[int, typer.Option(help="of the distortions' random parts")] = 0,
    workers: Workers = 2,
    timeout_s: Annotated[float, typer.Option(help="deadline of one video")] = 600.0,
) -> None:
    """Ladders of distortions, each rung worse than the one above; a manifest of their order alone."""
    from data.distortions import TRAIN_KINDS
    from data.prepare.ladders import make_ladders

    with progress("distorting videos") as show:
        made = make_ladders(
            folder,
            out,
            kinds=kind or TRAIN_KINDS,
            rungs=rungs,
            seconds=seconds,
            max_px=max_px,
            split=split,
            seed=seed,
            processes=workers,
            timeout_s=timeout_s,
            progress=show,
        )
    console.print(
        f"{made.clips} clips in {made.sets} ladders: {made.manifest}", highlight=False, markup=False
    )
    _print_reasons("left out", made.problems)


@prepare.command("merge")
def prepare_merge(
    manifests: Annotated[list[Path], typer.Argument(help="manifests of videos below the folder of --out")],
    out: ManifestFile,
) -> None:
    """One manifest out of several."""
    from data.prepare.merged import merge

    rows = merge(manifests, out)
    sets = len({video.label_set for video in rows})
    console.print(f"{len(rows)} videos in {sets} label sets: {out}", highlight=False, markup=False)


@prepare.command("check")
def prepare_check(
    manifest: Annotated[Path, typer.Argument(help="manifest of a run, or any table of videos and labels")],
    root: Annotated[Path | None, typer.Option(help="folder of the videos; default: the manifest's")] = None,
    frames: Annotated[int, typer.Option(help="data.frames_per_video", min=1)] = _DATA.frames_per_video,
    max_px: Annotated[int, typer.Option(help="data.max_frame_px", min=28)] = _DATA.max_frame_px,
    decoder: Annotated[Literal["auto", "decord", "pyav"], typer.Option(help="data.decoder")] = _DATA.decoder,
    timeout_s: Annotated[
        float, typer.Option(help="data.decode_timeout_s, the deadline of one video")
    ] = _DATA.decode_timeout_s,
    workers: Workers = 2,
    out: Annotated[
        Path | None, typer.Option(help="table of what was found; default: MANIFEST.check.csv")
    ] = None,
) -> None:
    """Decode all videos of a manifest as a run would: which fail, and which are marked.

    Exits with 1 if any would fail.
    """
    from data.prepare.checked import check_manifest

    data = DataConfig(
        frames_per_video=frames, max_frame_px=max_px, decoder=decoder, decode_timeout_s=timeout_s
    )
    with progress("decoding videos") as show:
        checked = check_manifest(manifest, data, root=root, out=out, processes=workers, progress=show)
    failing, marked = checked.of("fails"), checked.of("marked")
    console.print(
        f"{len(checked.findings)} videos: {len(failing)} would fail, {len(marked)} would be marked; all are "
        f"in {checked.table}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    _print_reasons("would fail", [*failing.items()])
    _print_reasons("would be marked", [*marked.items()])
    if failing:
        raise typer.Exit(1)


def _prepare(benchmark: Benchmark, files: tuple[Path, Path, Path], **options: Any) -> None:
    from data.prepare.labelled import prepare as make_manifest

    with progress("opening videos") as show:
        made = make_manifest(benchmark, *files, **options, progress=show)
    low, high = made.scale
    lines = [
        f"{made.rows} videos in {made.manifest}",
        f"labels: {made.span[0]:g} to {made.span[1]:g}, on a scale of {low:g} (MOS 1) to {high:g} (MOS 5)",
    ]
    if made.base != made.manifest.parent.resolve():
        lines.append(
            f"its paths start from {made.base}: --data.root={made.base} to train, --root to evaluate or score"
        )
    console.print("\n".join(lines), highlight=False, markup=False)
    _print_reasons(f"left out; all of them in {made.problems_file}", [*made.problems.items()])
    _print_reasons("would be marked in a run", [*made.marked.items()])


def _print_reasons(what: str, reasons: Sequence[tuple[str, str]]) -> None:
    """How many (video, reason) there are, and the first few."""
    if not reasons:
        return
    lines = [f"{len(reasons)} {what}"]
    lines += [f"  {video}: {reason}" for video, reason in reasons[:5]]
    if len(reasons) > 5:
        lines.append(f"  and {len(reasons) - 5} more")
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
