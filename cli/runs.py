"""The commands around a run: train, stop, scale, status, view, plan, settings."""

import asyncio
import json
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cli.terminal import console, failure
from cluster.config import RunConfig, describe_fields, dump_config, load_config
from monitoring.run_dir import RunDirectory
from runtime.errors import ConfigError

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="a run directory, or the name of a run")]


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
    from cli.run_display import RunDisplay
    from cli.run_tables import print_placement, print_plan, print_summary
    from cluster.node_check import check_nodes
    from cluster.preflight import (
        check_base_model,
        check_model,
        check_resources,
        check_run_dir,
        read_job,
        resolve_paths,
    )

    config = _training_config(arguments or [], resume)
    config = resolve_paths(config, Path("runs") / f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}")
    assert config.run_dir is not None
    run = RunDirectory(config.run_dir)
    check_run_dir(run, resume)
    if resume:
        check_base_model(run, config.model.path)
    job = read_job(config)

    # These take seconds to import, and what is wrong with the input is known by now.
    from cluster.controller_actor import RunFailed, follow_run, require_free_name
    from cluster.remote.stop import findable
    from data.manifest import manifest_hash
    from evaluation.models import fingerprint
    from monitoring.curves_png import plot
    from monitoring.summary import summarise, write_summary
    from rewards.registry import describe_rewards
    from runtime.session import ray_session

    print_plan(console, config, job.sizes)
    with ray_session(config.cluster, job.sizes.cpus):
        print_placement(console, check_resources(job.sizes, config))
        require_free_name(config.name)
        check_nodes(config)
        check_model(config)
        if not resume:
            run.create(
                dump_config(config),
                manifest_hash(config.data.manifest),
                describe_rewards(config.rewards),
                fingerprint(config.model.path),
            )
        console.print(f"Run directory: {run.path}")
        try:
            with findable(run, config.name), RunDisplay(console) as display:
                outcome = asyncio.run(
                    _with_stop_signals(lambda stop: follow_run(config, resume, display.show, stop))
                )
        except RunFailed as error:
            raise failure(str(error)) from None
    if not outcome["finished"]:
        console.print(f"Stopped with a checkpoint. Go on with: launch.py train --resume --run_dir={run.path}")
        return
    summary = summarise(
        run, Path(config.model.path) / "ceiling.json", config.evaluation.bootstrap_samples, config.seed
    ) | {"seconds": outcome["seconds"]}
    write_summary(run, summary)
    print_summary(console, summary)
    console.print(f"Curves: {plot(run)}\nModel:  {run.final}")


def stop(
    run: RunArgument,
    timeout_s: Annotated[float, typer.Option(help="seconds to wait for its end")] = 1800.0,
) -> None:
    """End a run with a checkpoint after the update in progress.

    A name is looked up on the cluster of RAY_ADDRESS. On a cluster, submit it:
    `ray job submit -- python launch.py stop NAME`.
    """
    from cluster.remote.whereabouts import find_run

    where = find_run(run)  # Ray, imported below, then knows whether to show a token

    from cluster.remote.stop import AskFailed, stop_run

    console.print(f"Asking {run} to stop after the update in progress")
    try:
        ended = stop_run(where, timeout_s)
    except (AskFailed, TimeoutError) as error:
        raise failure(str(error)) from None
    console.print(f"Ended after {ended.updates} updates: {ended.outcome}", highlight=False)


def scale(
    run: RunArgument,
    rollout_workers: Annotated[int, typer.Option(min=1, help="how many there shall be")],
    timeout_s: Annotated[float, typer.Option(help="seconds to wait until they are there")] = 1800.0,
) -> None:
    """Add or end rollout workers of a run that goes on; nothing else of it pauses.

    New ones take the current weights before they serve; those that leave finish their work first.
    """
    from cluster.remote.whereabouts import find_run

    where = find_run(run)

    from cluster.controller_actor import ControllerActor
    from cluster.remote.stop import AskFailed, ask_run
    from runtime.actors import remote

    try:
        ask_run(where, remote(ControllerActor.scale, rollout_workers), timeout_s)
    except AskFailed as error:
        raise failure(str(error)) from None
    console.print(f"{run}: {rollout_workers} rollout workers", highlight=False, soft_wrap=True)


def status(
    run: RunArgument,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """What a run that goes on is doing: version, workers, rates."""
    from cluster.remote.whereabouts import find_run

    where = find_run(run)

    from cli.run_tables import print_status
    from cluster.controller_actor import ANSWER_TIMEOUT_S, ControllerActor
    from cluster.remote.stop import AskFailed, ask_run
    from runtime.actors import remote

    try:
        found = ask_run(where, remote(ControllerActor.status), ANSWER_TIMEOUT_S)
    except AskFailed as error:
        raise failure(str(error)) from None
    if as_json:
        typer.echo(json.dumps(asdict(found), default=str))
    else:
        print_status(console, found)


def plan(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PRESET] [--SETTING=VALUE]...", help="for example configs/internvl3-8b.toml"),
    ] = None,
    memory: Annotated[bool, typer.Option("--memory", help="also GB for each GPU, worked out")] = False,
    workers: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="simulate so many rollout workers; needs the times below"),
    ] = None,
    rollout_s: Annotated[
        float | None, typer.Option(help="seconds of one video with all its answers on a busy worker")
    ] = None,
    update_s: Annotated[float | None, typer.Option(help="seconds of a learner's update")] = None,
    sync_s: Annotated[float, typer.Option(help="seconds of handing new weights out")] = 2.0,
    videos_at_once: Annotated[int, typer.Option(help="videos that a worker samples side by side")] = 8,
) -> None:
    """What a configuration asks of a cluster. Needs no cluster, no model and no network."""
    from cli.run_tables import print_memory
    from cluster.placement_plan import demands
    from cluster.planning.architecture import read_architecture

    config = _training_config(arguments or [], resume=False)
    for demand in demands(config):
        console.print(f"Asks for {demand}", highlight=False)
    if memory:
        print_memory(console, config, read_architecture(config.model.path))
    if workers is not None:
        from cli.run_tables import print_workers
        from cluster.planning.simulation import ServiceTimes
        from cluster.planning.workers import UPDATES, plan_workers

        if rollout_s is None or update_s is None:
            raise ConfigError("--workers simulates with measured times: give --rollout-s and --update-s")
        times = ServiceTimes(rollout_s, update_s, videos_at_once=videos_at_once, sync_s=sync_s)
        print_workers(console, plan_workers(config, times, _whole_numbers(workers)), UPDATES)


def _whole_numbers(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",") if part.strip().isdigit()]
    if not numbers or min(numbers) < 1:
        raise ConfigError(f"--workers {text}: write whole numbers with commas between, as in 2,4,8")
    return numbers


def view(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="run directories, or names under runs/; none: all of them"),
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="default: the first free one from 8420 on", show_default=False)
    ] = None,
    host: Annotated[str, typer.Option(help="address to bind; any but loopback needs a token")] = "127.0.0.1",
    token: Annotated[
        str | None, typer.Option(help="what the page's address must carry", show_default=False)
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="open a browser")] = True,
) -> None:
    """Look at runs in a browser: curves, videos and what was said of them, ranking, fleet.

    Works while a run goes on and afterwards, from the run directory alone; several runs are compared.
    """
    from monitoring.viewer.serve import serve

    serve(
        runs or [],
        host,
        port,
        token,
        browser,
        lambda address: console.print(
            f"Viewer: {address}   (Ctrl-C ends it)", highlight=False, soft_wrap=True
        ),
    )


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
