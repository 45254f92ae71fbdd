"""VQAThinker on Ray: teach a vision-language model to judge video quality. The one entry point."""

import asyncio
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cluster.config import ConfigError, RunConfig, describe_fields, dump_config, load_config
from cluster.run_dir import RunDirectory, RunDirectoryError
from data.manifest import ManifestError

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
# A log has no width of its own, and lines cut at 80 columns are hard to search.
console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120)
OVERRIDES = {"ignore_unknown_options": True}


@app.command(context_settings=OVERRIDES)
def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PRESET] [--SETTING=VALUE]...", help="for example configs/demo.toml --seed=7"
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in --run_dir")] = False,
) -> None:
    """Train a model, here or on a cluster.

    Every setting of the preset can be overridden: --learner.lr=1e-4 --rollout.replicas=4 --seed=7
    --run_dir=runs/mine. `launch.py settings` lists them. With --resume the run's own configuration is used,
    and overrides apply to it.
    """
    from cluster.actor import RunFailed, follow_run
    from cluster.console import RunDisplay, print_plan, print_summary
    from cluster.plots import plot
    from cluster.preflight import check_resources, check_run_dir, read_job, resolve_paths
    from cluster.report import summarise, write_summary
    from cluster.session import ray_session
    from data.manifest import manifest_hash

    config = _training_config(arguments or [], resume)
    config = resolve_paths(config, Path("runs") / f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}")
    assert config.run_dir is not None
    run = RunDirectory(config.run_dir)
    check_run_dir(run, resume)
    job = read_job(config)
    print_plan(console, config, job.sizes)
    with ray_session(config, job.sizes.cpus):
        check_resources(job.sizes, config)
        if not resume:
            run.create(dump_config(config), manifest_hash(config.data.manifest))
        console.print(f"Run directory: {run.path}")
        try:
            with RunDisplay(console) as display:
                outcome = asyncio.run(
                    _with_stop_signals(lambda stop: follow_run(config, resume, display.show, stop))
                )
        except RunFailed as error:
            raise _failure(str(error)) from None
    if not outcome["finished"]:
        console.print(f"Stopped with a checkpoint. Go on with: launch.py train --resume --run_dir={run.path}")
        return
    summary = summarise(
        run, Path(config.model.path) / "ceiling.json", config.evaluation.bootstrap_samples, config.seed
    ) | {"seconds": outcome["seconds"]}
    write_summary(run, summary)
    print_summary(console, summary)
    console.print(f"Curves: {plot(run)}\nModel:  {run.final}")


@app.command("make-demo-set")
def make_demo_set(
    out: Annotated[Path | None, typer.Option(help="folder of the clips")] = None,
    workers: Annotated[int, typer.Option(help="processes")] = 2,
) -> None:
    """Rebuild the demo's clips from their label table (a minute or two; nothing if they are there)."""
    from data.demo.build import CLIPS, DemoSetError, build

    columns = (TextColumn("making clips"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("clips", total=None)
        try:
            manifest = build(
                out or CLIPS, workers, lambda done, n: progress.update(task, completed=done, total=n)
            )
        except DemoSetError as error:
            raise _failure(str(error)) from None
    console.print(f"Demo set: {manifest}")


@app.command("make-base")
def make_base(
    out: Annotated[Path, typer.Option(help="folder of the model")] = Path("models/tiny-internvl"),
    work: Annotated[Path, typer.Option(help="folder of clips and checkpoints on the way")] = Path(
        "runs/make-base"
    ),
    threads: Annotated[int, typer.Option(help="CPU threads")] = 2,
    restart: Annotated[bool, typer.Option("--restart", help="make everything again")] = False,
) -> None:
    """Make the demo's tiny base model from nothing (about an hour; goes on where it was stopped)."""
    import torch

    from data.demo.build import CLIPS, build
    from learner.tiny_base.recipe import make_base

    logging.getLogger("learner.tiny_base").setLevel(logging.INFO)
    torch.set_num_threads(threads)
    make_base(out, work, build(CLIPS, threads), resume=not restart)
    console.print(f"Model: {out}")


@app.command()
def settings() -> None:
    """List every setting with its default and what it does."""
    table = Table("setting", "default", "what it does")
    for name, default, description in describe_fields():
        table.add_row(name, default, " ".join(description.split()))
    console.print(table)


def _training_config(arguments: list[str], resume: bool) -> RunConfig:
    preset = Path(arguments.pop(0)) if arguments and not arguments[0].startswith("-") else None
    if not resume:
        return load_config(preset, arguments)
    run_dir = next((a.split("=", 1)[1] for a in arguments if a.startswith("--run_dir=")), None)
    if run_dir is None or preset is not None:
        raise ConfigError("--resume goes on with the run of --run_dir=FOLDER, under its own configuration")
    if not (Path(run_dir) / "config.json").exists():
        raise ConfigError(f"{run_dir} holds no run to resume; leave --resume out to start one")
    return load_config(Path(run_dir) / "config.json", arguments)


async def _with_stop_signals(main):  # type: ignore[no-untyped-def]
    """Run `main(stop)`; the first Ctrl-C or SIGTERM sets `stop`, the second one cancels."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    task = asyncio.ensure_future(main(stop))

    def on_signal() -> None:
        if stop.is_set():
            task.cancel()
        else:
            console.print("Stopping after this update, with a checkpoint (once more to stop at once)")
            stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    return await task


def _failure(message: str) -> typer.Exit:
    console.print(f"[red]error[/] {message}", highlight=False, markup=True)
    return typer.Exit(1)


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app()
    except (ConfigError, ManifestError, RunDirectoryError) as error:
        console.print("[red]error[/] ", end="")
        console.print(str(error), highlight=False, markup=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
