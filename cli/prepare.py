"""The commands that make and check manifests (`launch.py prepare`)."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cli.terminal import console, print_reasons, progress
from data.benchmarks.labels import Columns
from data.benchmarks.sets import BENCHMARKS, Benchmark
from data.config import DataConfig
from data.fetch_settings import FetchSettings
from data.urls import Location, location, name_of

prepare = typer.Typer(
    help="Make a manifest from a benchmark's labels and videos, or from videos without labels.",
    no_args_is_help=True,
)
LabelFile = Annotated[
    Any, typer.Option(parser=location, metavar="PATH|URL", help="the set's label file", show_default=False)
]
VideosFolder = Annotated[
    Any,
    typer.Option(parser=location, metavar="PATH|URL", help="folder of the videos, searched recursively"),
]
CacheGb = Annotated[float, typer.Option(help="data.cache_gb: disk of the cache of videos fetched by URL")]
CacheDir = Annotated[Path | None, typer.Option(help="data.cache_dir: folder of that cache")]
ManifestFile = Annotated[Path, typer.Option(help="manifest to write: .parquet, .csv or .jsonl")]
ScaleEnds = Annotated[
    tuple[float, float] | None, typer.Option(help="ends of the label scale: worst, then best quality")
]
Check = Annotated[
    Literal["open", "exists", "decode"],
    typer.Option(help="check of each video: open it, test that it exists, or decode a run's frames"),
]
Workers = Annotated[int, typer.Option(help="number of processes", min=1)]
_DATA = DataConfig()
OpenTimeout = Annotated[float, typer.Option(help="deadline for opening one file, in seconds")]
_LISTED = 5


def _add_benchmark(benchmark: Benchmark) -> None:
    @prepare.command(benchmark.name, help=benchmark.title)
    def command(
        labels: LabelFile,
        videos: VideosFolder,
        out: ManifestFile,
        scale: ScaleEnds = None,
        split: Annotated[str, typer.Option(help="split assigned to all rows")] = benchmark.split,
        label_set: Annotated[str, typer.Option(help="label set assigned to all rows")] = benchmark.name,
        check: Check = "open",
        workers: Workers = 2,
        timeout_s: OpenTimeout = 30.0,
        cache_gb: CacheGb = _DATA.cache_gb,
        cache_dir: CacheDir = None,
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
            fetching=FetchSettings(cache_gb=cache_gb, cache_dir=cache_dir).fetching,
        )


for _benchmark in BENCHMARKS.values():
    _add_benchmark(_benchmark)


@prepare.command("table")
def prepare_table(
    labels: Annotated[
        Any,
        typer.Option(
            parser=location, metavar="PATH|URL", help="table of labels: .csv, .jsonl, .json, .parquet or .mat"
        ),
    ],
    videos: VideosFolder,
    out: ManifestFile,
    path_column: Annotated[str, typer.Option(help="column with the file names")] = "path",
    mos_column: Annotated[str, typer.Option(help="column with the labels")] = "mos",
    split_column: Annotated[str, typer.Option(help="column with the splits", show_default="none")] = "",
    source_column: Annotated[
        str, typer.Option(help="column with the source contents", show_default="none")
    ] = "",
    scale: ScaleEnds = None,
    rank_only: Annotated[
        bool, typer.Option("--rank-only", help="use labels for ranking only; they have no scale")
    ] = False,
    split: Annotated[
        str | None, typer.Option(help="split assigned to all rows", show_default="train")
    ] = None,
    label_set: Annotated[
        str | None, typer.Option(help="label set assigned to all rows", show_default="name of the label file")
    ] = None,
    check: Check = "open",
    workers: Workers = 2,
    timeout_s: OpenTimeout = 30.0,
    cache_gb: CacheGb = _DATA.cache_gb,
    cache_dir: CacheDir = None,
) -> None:
    """Make a manifest from any table with one row per video."""
    columns = Columns((path_column,), (mos_column,), split_column, source_column)
    _prepare(
        Benchmark(name_of(labels).stem, "", "train", scale=None, columns=columns),
        (labels, videos, out),
        scale=scale,
        rank_only=rank_only,
        split=split,
        label_set=label_set,
        check=check,
        processes=workers,
        timeout_s=timeout_s,
        fetching=FetchSettings(cache_gb=cache_gb, cache_dir=cache_dir).fetching,
    )


@prepare.command("ladder")
def prepare_ladder(
    folder: Annotated[
        Any,
        typer.Argument(parser=location, metavar="PATH|URL", help="folder of videos; labels are not needed"),
    ],
    out: Annotated[Path, typer.Option(help="output folder of the clips and their manifest")],
    kind: Annotated[
        list[str] | None, typer.Option(help="distortion to apply; may be repeated", show_default="all seven")
    ] = None,
    rungs: Annotated[int, typer.Option(help="clips per ladder, one per strength")] = 5,
    seconds: Annotated[float, typer.Option(help="length of a clip, cut from the middle of the video")] = 2.0,
    max_px: Annotated[int, typer.Option(help="longer side of a clip in pixels")] = 256,
    split: Annotated[str, typer.Option(help="split assigned to all rows")] = "train",
    seed: Annotated[int, typer.Option(help="seed of the distortions")] = 0,
    workers: Workers = 2,
    timeout_s: Annotated[float, typer.Option(help="deadline for one video, in seconds")] = 600.0,
    cache_gb: CacheGb = _DATA.cache_gb,
    cache_dir: CacheDir = None,
) -> None:
    """Make ladders of increasingly distorted clips, and a manifest that labels their order for ranking."""
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
            fetching=FetchSettings(cache_gb=cache_gb, cache_dir=cache_dir).fetching,
            progress=show,
        )
    console.print(
        f"{made.clips} clips in {made.sets} ladders: {made.manifest}", highlight=False, markup=False
    )
    print_reasons(console, "left out", made.problems, _LISTED)


@prepare.command("merge")
def prepare_merge(
    manifests: Annotated[
        list[Path], typer.Argument(help="manifests; all videos must lie inside the folder of --out")
    ],
    out: ManifestFile,
) -> None:
    """Merge several manifests into one."""
    from data.prepare.merged import merge

    rows = merge(manifests, out)
    sets = len({video.label_set for video in rows})
    console.print(f"{len(rows)} videos in {sets} label sets: {out}", highlight=False, markup=False)


@prepare.command("check")
def prepare_check(
    manifest: Annotated[Path, typer.Argument(help="manifest, or any table of videos and labels")],
    root: Annotated[
        Any,
        typer.Option(
            parser=location, metavar="PATH|URL", help="folder of the videos; default: the manifest's folder"
        ),
    ] = None,
    frames: Annotated[
        int, typer.Option(help="data.frames_per_video: frames to decode", min=1)
    ] = _DATA.frames_per_video,
    max_px: Annotated[
        int, typer.Option(help="data.max_frame_px: longer side of a frame", min=28)
    ] = _DATA.max_frame_px,
    decoder: Annotated[
        Literal["auto", "decord", "pyav"], typer.Option(help="data.decoder: video decoder")
    ] = _DATA.decoder,
    timeout_s: Annotated[
        float, typer.Option(help="data.decode_timeout_s: deadline for one video, in seconds")
    ] = _DATA.decode_timeout_s,
    workers: Workers = 2,
    out: Annotated[
        Path | None, typer.Option(help="table of the findings; default: MANIFEST.check.csv")
    ] = None,
    cache_gb: CacheGb = _DATA.cache_gb,
    cache_dir: CacheDir = None,
) -> None:
    """Decode all videos of a manifest as a run would; list videos that fail or have unusual properties.

    Exits with status 1 if any video would fail.
    """
    from data.prepare.checked import check_manifest

    data = DataConfig(
        frames_per_video=frames,
        max_frame_px=max_px,
        decoder=decoder,
        decode_timeout_s=timeout_s,
        cache_gb=cache_gb,
        cache_dir=cache_dir,
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
    print_reasons(console, "would fail", [*failing.items()], _LISTED)
    print_reasons(console, "would be marked", [*marked.items()], _LISTED)
    if failing:
        raise typer.Exit(1)


def _prepare(benchmark: Benchmark, files: tuple[Location, Location, Path], **options: Any) -> None:
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
    what = f"left out; all of them in {made.problems_file}"
    print_reasons(console, what, [*made.problems.items()], _LISTED)
    print_reasons(console, "would be marked in a run", [*made.marked.items()], _LISTED)
