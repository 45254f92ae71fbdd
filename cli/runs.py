"""The commands that concern runs: train, stop, scale, status, view, plan, settings."""

import asyncio
import json
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cli.terminal import console
from cluster.config import RunConfig, describe_fields, dump_config, load_config
from monitoring.run_dir import RunDirectory
from runtime.errors import ConfigError

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="run directory, or name of a run")]


def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PRESET] [--SETTING=VALUE]...", help="for example configs/demo.toml --seed=7"
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="resume the run in --run_dir")] = False,
) -> None:
    """Train a model on this machine or on a cluster.

    Options override settings of the preset: --learner.lr=1e-4 --rollout.replicas=4 --seed=7
    --run_dir=runs/mine. `launch.py settings` lists all settings. With --resume, the run's own configuration
    replaces the preset.
    """
    from cli.run_display import RunDisplay
    from cli.run_tables import print_placement, print_plan, print_summary
    from cluster.node_check import check_nodes
    from cluster.preflight import (
        check_base_model,
        check_model,
        check_resources,
        check_run_dir,
        fit_decoding,
        pin_model,
        read_job,
        resolve_paths,
    )

    config = _training_config(arguments or [], resume)
    config = resolve_paths(config, Path("runs") / f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}")
    assert config.run_dir is not None
    run = RunDirectory(config.run_dir)
    check_run_dir(run, resume)
    if resume:
        check_base_model(run, config.model.path, config.model.revision)
    job = read_job(config)

    # Import these after checking the input: they take seconds.
    from cluster.controller_actor import follow_run, require_free_name
    from cluster.remote.stop import findable
    from data.manifest import manifest_hash
    from evaluation.models import fingerprint
    from monitoring.curves_png import plot
    from monitoring.summary import summarise, write_summary
    from rewards.registry import describe_rewards
    from runtime.session import ray_session

    print_plan(console, config, job.sizes)
    with ray_session(config.cluster, job.sizes.cpus):
        job = fit_decoding(job)
        config = job.config
        print_placement(console, check_resources(job.sizes, config))
        require_free_name(config.name)
        check_nodes(config)
        config = pin_model(config)
        check_model(config)
        if not resume:
            run.create(
                dump_config(config),
                manifest_hash(config.data.manifest),
                describe_rewards(config.rewards),
                fingerprint(config.model.path),
                config.model.revision,
            )
        console.print(f"Run directory: {run.path}")
        with findable(run, config.name), RunDisplay(console) as display:
            outcome = asyncio.run(
                _with_stop_signals(lambda stop: follow_run(config, resume, display.show, stop))
            )
    if not outcome["finished"]:
        console.print(
            f"Stopped with a checkpoint. Resume with: launch.py train --resume --run_dir={run.path}"
        )
        return
    summary = summarise(
        run, Path(config.model.path) / "ceiling.json", config.evaluation.bootstrap_samples, config.seed
    ) | {"seconds": outcome["seconds"]}
    write_summary(run, summary)
    print_summary(console, summary)
    console.print(f"Curves: {plot(run)}\nModel:  {run.final}")


def stop(
    run: RunArgument,
    timeout_s: Annotated[float, typer.Option(help="seconds to wait for the run to end")] = 1800.0,
) -> None:
    """Stop a run after the update in progress, and save a checkpoint.

    A name is looked up on the cluster that RAY_ADDRESS names. To stop a run on a cluster, submit the command
    as a job: `ray job submit -- python launch.py stop NAME`.
    """
    from cluster.remote.whereabouts import find_run

    where = find_run(run)  # sets Ray's authentication, so it must run before Ray is imported

    from cluster.remote.stop import stop_run

    console.print(f"Asking {run} to stop after the update in progress")
    ended = stop_run(where, timeout_s)
    console.print(f"Ended after {ended.updates} updates: {ended.outcome}", highlight=False)


def scale(
    run: RunArgument,
    rollout_workers: Annotated[int, typer.Option(min=1, help="target number of rollout workers")],
    timeout_s: Annotated[float, typer.Option(help="seconds to wait for the workers")] = 1800.0,
) -> None:
    """Add or remove rollout workers of a running job without pausing training.

    New workers load the current weights before they get requests. Removed workers first finish theirs.
    """
    from cluster.remote.whereabouts import find_run

    where = find_run(run)

    from cluster.controller_actor import ControllerActor
    from cluster.remote.stop import ask_run
    from runtime.actors import remote

    ask_run(where, remote(ControllerActor.scale, rollout_workers), timeout_s)
    console.print(f"{run}: {rollout_workers} rollout workers", highlight=False, soft_wrap=True)


def status(
    run: RunArgument,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Show a running job: version, workers, rates."""
    from cluster.remote.whereabouts import find_run

    where = find_run(run)

    from cli.run_tables import print_status
    from cluster.controller_actor import ANSWER_TIMEOUT_S, ControllerActor
    from cluster.remote.stop import ask_run
    from runtime.actors import remote

    found = ask_run(where, remote(ControllerActor.status), ANSWER_TIMEOUT_S)
    if as_json:
        typer.echo(json.dumps(asdict(found), default=str))
    else:
        print_status(console, found)


def plan(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PRESET] [--SETTING=VALUE]...", help="for example configs/internvl3-8b.toml"),
    ] = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="also estimate the memory needed on each GPU, in GB")
    ] = False,
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="simulate runs with these numbers of rollout workers; needs --rollout-s and --update-s",
        ),
    ] = None,
    rollout_s: Annotated[
        float | None, typer.Option(help="seconds a busy worker needs for all answers to one video")
    ] = None,
    update_s: Annotated[float | None, typer.Option(help="seconds per learner update")] = None,
    sync_s: Annotated[float, typer.Option(help="seconds to send new weights to the workers")] = 2.0,
    videos_at_once: Annotated[int, typer.Option(help="videos that a worker samples concurrently")] = 8,
    loop: Annotated[
        bool,
        typer.Option("--loop", help="simulate updates token by token; see --vary"),
    ] = False,
    answer_tokens: Annotated[float, typer.Option(help="--loop: mean length of an answer")] = 300.0,
    at_cap: Annotated[float, typer.Option(help="--loop: share of answers that reach the cap")] = 0.002,
    evaluated: Annotated[int | None, typer.Option(help="--loop: videos per evaluation")] = None,
    updates: Annotated[int, typer.Option(help="--loop: updates to simulate")] = 100,
    vary: Annotated[bool, typer.Option("--vary/--no-vary", help="--loop: also vary each setting")] = True,
    costs: Annotated[
        Path | None,
        typer.Option(help="--loop: JSON file of measured constants, or of benchmarks.gpu_smoke"),
    ] = None,
) -> None:
    """Show the resources that a configuration needs. Requires no cluster, no model weights and no network."""
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
        from cluster.planning.service_times import ServiceTimes
        from cluster.planning.workers import UPDATES, plan_workers

        if rollout_s is None or update_s is None:
            raise ConfigError("--workers simulates with measured times: give --rollout-s and --update-s")
        times = ServiceTimes(rollout_s, update_s, videos_at_once=videos_at_once, sync_s=sync_s)
        print_workers(console, plan_workers(config, times, _whole_numbers(workers)), UPDATES)
    if loop:
        from cli.run_tables import print_loop
        from cluster.planning.costs import LoopCosts, read_costs
        from cluster.planning.engines import Answers
        from cluster.planning.workers import LSVQ_TEST, LoopPlan

        found, measured = read_costs(costs) if costs else (LoopCosts(), [])
        videos = LSVQ_TEST if evaluated is None else evaluated
        loop_plan = LoopPlan.of(config, Answers(answer_tokens, at_cap=at_cap), videos)
        print_loop(console, loop_plan, read_architecture(config.model.path), found, measured, updates, vary)


def _whole_numbers(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",") if part.strip().isdigit()]
    if not numbers or min(numbers) < 1:
        raise ConfigError(f"--workers {text}: give whole numbers separated by commas, such as 2,4,8")
    return numbers


def view(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...", help="run directories, or names under runs/; default: all runs there"
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="port to listen on; default: the first free one from 8420", show_default=False),
    ] = None,
    host: Annotated[
        str, typer.Option(help="address to listen on; requires --token unless it is a loopback address")
    ] = "127.0.0.1",
    token: Annotated[
        str | None, typer.Option(help="access token that the page's URL must contain", show_default=False)
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="open a browser")] = True,
) -> None:
    """Show runs in a browser: curves, videos with the model's answers, ranking, fleet.

    Reads only run directories, during or after a run. Several runs are compared.
    """
    from monitoring.viewer.serve import serve

    serve(
        runs or [],
        host,
        port,
        token,
        browser,
        lambda address: console.print(
            f"Viewer: {address}   (stop it with Ctrl-C)", highlight=False, soft_wrap=True
        ),
    )


def settings() -> None:
    """List all settings with their defaults and descriptions."""
    table = Table("setting", "default", "description")
    for name, default, description in describe_fields():
        table.add_row(name, default, " ".join(description.split()))
    console.print(table)


def _training_config(arguments: list[str], resume: bool) -> RunConfig:
    preset = Path(arguments.pop(0)) if arguments and not arguments[0].startswith("-") else None
    if not resume:
        return load_config(preset, arguments)
    run_dir = next((a.split("=", 1)[1] for a in arguments if a.startswith("--run_dir=")), None)
    if run_dir is None or preset is not None:
        raise ConfigError(
            "--resume needs --run_dir=FOLDER and no preset: it uses the configuration of that run"
        )
    if not (Path(run_dir) / "config.json").exists():
        raise ConfigError(f"{run_dir} holds no run to resume; leave --resume out to start one")
    return load_config(Path(run_dir) / "config.json", arguments)


async def _with_stop_signals(main):  # type: ignore[no-untyped-def]
    """Run `main(stop)`. The first Ctrl-C or SIGTERM sets `stop`; the second cancels the task."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    task = asyncio.ensure_future(main(stop))

    def on_signal() -> None:
        if stop.is_set():
            task.cancel()
        else:
            console.print("Stopping after this update, with a checkpoint (repeat to stop immediately)")
            stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    return await task
