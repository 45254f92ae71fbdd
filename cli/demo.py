"""The commands that make what the demo is made of: its clips and its base model."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from cli.terminal import console, failure, progress


def make_demo_set(
    out: Annotated[Path | None, typer.Option(help="folder of the clips")] = None,
    workers: Annotated[int, typer.Option(help="processes")] = 2,
) -> None:
    """Rebuild the demo's clips from their label table (a minute or two; nothing if they are there)."""
    from demo.clips.build import CLIPS, DemoSetError, build

    with progress("making clips") as show:
        try:
            manifest = build(out or CLIPS, workers, show)
        except DemoSetError as error:
            raise failure(str(error)) from None
    console.print(f"Demo set: {manifest}")


def make_base(
    out: Annotated[Path, typer.Option(help="folder of the model")] = Path("demo/tiny-internvl"),
    work: Annotated[Path, typer.Option(help="folder of clips and checkpoints on the way")] = Path(
        "runs/make-base"
    ),
    threads: Annotated[int, typer.Option(help="CPU threads")] = 2,
    restart: Annotated[bool, typer.Option("--restart", help="make everything again")] = False,
) -> None:
    """Make the demo's tiny base model from nothing (about an hour; goes on where it was stopped)."""
    import torch

    from demo.base_model.recipe import make_base
    from demo.clips.build import CLIPS, build

    logging.getLogger("demo.base_model").setLevel(logging.INFO)
    torch.set_num_threads(threads)
    make_base(out, work, build(CLIPS, threads), resume=not restart)
    console.print(f"Model: {out}")
