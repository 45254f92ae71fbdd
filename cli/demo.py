"""The commands that build the demo's clips and its base model."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from cli.terminal import console, progress


def make_demo_set(
    out: Annotated[Path | None, typer.Option(help="output folder of the clips; default: demo/built")] = None,
    workers: Annotated[int, typer.Option(help="number of processes")] = 2,
) -> None:
    """Rebuild the demo's clips from their label table, if they are missing. Takes one or two minutes."""
    from demo.clips.build import CLIPS, build

    with progress("making clips") as show:
        manifest = build(out or CLIPS, workers, show)
    console.print(f"Demo set: {manifest}")


def make_base(
    out: Annotated[Path, typer.Option(help="output folder of the model")] = Path("demo/tiny-internvl"),
    work: Annotated[Path, typer.Option(help="folder for intermediate clips and checkpoints")] = Path(
        "runs/make-base"
    ),
    threads: Annotated[int, typer.Option(help="number of CPU threads")] = 2,
    restart: Annotated[
        bool, typer.Option("--restart", help="discard the intermediate results and start over")
    ] = False,
) -> None:
    """Make the demo's tiny base model from scratch. Takes about an hour; repeat the command to resume."""
    import torch

    from demo.base_model.recipe import make_base
    from demo.clips.build import CLIPS, build

    logging.getLogger("demo.base_model").setLevel(logging.INFO)
    torch.set_num_threads(threads)
    make_base(out, work, build(CLIPS, threads), resume=not restart)
    console.print(f"Model: {out}")
