"""Print tables about a run in the terminal: plan, placement, memory, status, summary."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.run_display import figure
from cluster.config import DerivedSizes, RunConfig, dump_config
from cluster.placement_plan import PlacementPlan
from cluster.planning.adapters import what_engines_get
from cluster.planning.architecture import Architecture, known_architecture
from cluster.planning.memory import (
    CONTEXT_GB,
    GPU_SIZES_GB,
    SLACK,
    Line,
    checkpoint_copy_gb,
    host_lines,
    learner_budget,
    learner_cure,
    rollout_budget,
    rollout_cure,
    sent_weights_gb,
    trained_parameters,
)

_SHOWN = ("reward/total", "policy/kl_to_base", "staleness/max", "timing/step_s", "learner/update_s", "sync/s")

if TYPE_CHECKING:
    from cluster.controller import RunStatus
    from cluster.planning.costs import LoopCosts
    from cluster.planning.simulation import Outcome
    from cluster.planning.workers import LoopPlan


def print_plan(console: Console, config: RunConfig, sizes: DerivedSizes) -> None:
    """Print the resolved configuration, the derived sizes, and warnings about likely mistakes."""
    console.print("[bold]Configuration[/]")
    console.print_json(dump_config(config))
    table = Table("derived", "value", title="Derived sizes", title_justify="left")
    for name, value in sizes.model_dump().items():
        table.add_row(name.replace("_", " "), f"{value:g}" if isinstance(value, float) else str(value))
    console.print(table)
    model = known_architecture(config.model.path)
    if model is not None:
        console.print(trains(config, model), highlight=False)
    if line := what_engines_get(config, model):
        console.print(line, highlight=False, markup=False)
    for warning in config.warnings():
        console.print(f"[yellow]warning[/] {warning}")


def print_placement(console: Console, plan: PlacementPlan) -> None:
    """Print the placement of actors if there are several nodes, and the actors that wait for new nodes."""
    if len(plan.nodes) > 1:
        columns = ("node", "labels", "CPU", "GPU", *plan.placed[0])
        table = Table(*columns, title="Placement", title_justify="left")
        for node, placed in zip(plan.nodes, plan.placed, strict=True):
            own = ", ".join(f"{k}={v}" for k, v in node.labels.items() if not k.startswith("ray.io/node"))
            figures = [f"{node.cpus:g}", f"{node.gpus:g}", *(str(n or "") for n in placed.values())]
            table.add_row(node.address, own, *figures)
        console.print(table)
    for line in plan.missing:
        console.print(f"[yellow]waits for nodes[/] {escape(line)}", highlight=False)


def print_summary(console: Console, summary: dict[str, Any]) -> None:
    """Print the scores of the base model, the trained model and the ceiling, and the gains over the base."""
    table = Table("split", "model", "SRCC", "95 %", "PLCC", "SRCC, mean of samples", "unparsed",
                  title="Unseen clips: greedy answers, PLCC without a fit", title_justify="left")  # fmt: skip
    for split in summary["trained"]:
        for model in ("base", "trained", "ceiling"):
            scores = summary[model].get(split)
            if scores:
                table.add_row(
                    split, model, figure(scores.get("srcc"), 3),
                    f"{figure(scores.get('srcc_low'), 2)} to {figure(scores.get('srcc_high'), 2)}",
                    figure(scores.get("plcc"), 3), figure(scores.get("mean_srcc"), 3),
                    str(scores.get("unparsed", "")),
                )  # fmt: skip
    console.print(table)
    for split, gains in summary["gain"].items():
        for name, gain in gains.items():
            what = "greedy" if name == "srcc" else "mean of samples"
            console.print(
                f"{split}, {what}: SRCC {gain['gain']:+.3f} over the base "
                f"(paired 95 % interval {gain['low']:+.3f} to {gain['high']:+.3f})",
                highlight=False,
            )


def print_status(console: Console, status: "RunStatus") -> None:
    """Print the stage of a run, the state of its workers, and metrics of the latest update."""
    console.print(
        f"{status.run_dir}: {status.stage}; version {status.version} of {status.total_updates}, after "
        f"{timedelta(seconds=round(status.seconds))}\n"
        f"{status.videos_waiting} videos wait for a worker; so far {status.worker_restarts} workers were "
        f"replaced, and the learner was restarted {status.learner_restarts} times",
        highlight=False,
        markup=False,
    )
    table = Table("worker", "state", "node", "process", "outstanding tokens")
    for worker in status.workers:
        table.add_row(
            worker.worker_id, worker.state, worker.node, str(worker.pid or ""), str(worker.outstanding_tokens)
        )
    console.print(table)
    figures = [f"{name} {status.metrics[name]:.3g}" for name in _SHOWN if name in status.metrics]
    if figures:
        console.print("Last update: " + ", ".join(figures), highlight=False)


def print_memory(console: Console, config: RunConfig, model: Architecture) -> None:
    """Print the memory budgets of learner and rollout worker. For each GPU size, print whether they fit, or
    which setting would make them fit."""
    learner, rollout = learner_budget(config, model), rollout_budget(config, model)
    counted = max(learner.phases, key=lambda line: line.gb)
    console.print(
        f"{config.model.path}: {model.parameters / 1e9:.3f} billion parameters, of which vision tower "
        f"{model.vision.parameters / 1e9:.3f} and projector {model.vision.projector_parameters / 1e9:.3f}",
        highlight=False,
    )
    console.print(trains(config, model), highlight=False)
    if line := what_engines_get(config, model):
        console.print(line, highlight=False, markup=False)
    if config.device == "cpu":
        console.print("This configuration runs on the CPU; the figures below are for GPUs.")
    held = sum(line.gb for line in learner.held) + counted.gb
    _print_lines(
        console,
        f"Learner: GB on each of {config.learner.ranks} GPUs",
        [
            *learner.held,
            *(Line(p.name if p is counted else f"({p.name})", p.gb, p.how) for p in learner.phases),
            Line("allocator slack", SLACK * held, f"{SLACK:.0%} of the above"),
            Line("context", CONTEXT_GB, "CUDA context, NCCL, library workspaces"),
            Line("in all", learner.total_gb, "without lines in brackets, which occur at other times"),
        ],
    )
    if host := host_lines(config, model):
        _print_lines(
            console,
            f"Host memory: GB of each of {config.learner.ranks} learner ranks (learner.offload)",
            [*host, Line("in all", sum(line.gb for line in host), "ranks of one node add up")],
        )
    if (gb := sent_weights_gb(config, model)) > 0:
        console.print(f"Host memory of rank 0, besides: {gb:.2f} GB, pinned: the weights that it sends")
    if (gb := checkpoint_copy_gb(config, model)) > 0:
        console.print(
            f"Host memory of each rank, besides: {gb:.2f} GB: its part of a checkpoint being written"
        )
    gpus = config.rollout.tensor_parallel_size
    _print_lines(
        console,
        f"Rollout: GB on each of {config.rollout.replicas} x {gpus} GPUs, KV cache apart",
        [
            *rollout.held,
            *(Line(f"({o.name})", o.gb, f"outside vLLM's share: {o.how}") for o in rollout.outside),
        ],
    )
    table = Table(
        "GPU", "learner", "rollout", "KV cache", "longest sequences", title="Verdict", title_justify="left"
    )
    for size in GPU_SIZES_GB:
        table.add_row(
            f"{size} GB",
            _verdict(learner.fits(size), learner_cure(config, model, size)),
            _verdict(rollout.fits(size), rollout_cure(config, model, size)),
            f"{max(0.0, rollout.kv_gb(size)):.1f} GB",
            f"{rollout.sequences(size):.0f} at once",
        )
    console.print(table)
    if learner.beside is not None:
        console.print(
            f"Learner and replica share a GPU: vLLM takes {rollout.utilization:.0%} of it "
            "(rollout.gpu_memory_utilization), the learner has to fit into the rest."
        )


def trains(config: RunConfig, model: Architecture) -> str:
    """Describe how many parameters are trained."""
    lora = config.learner.lora
    trained, whole = trained_parameters(config.learner, model), model.parameters
    if lora is not None:
        return (
            f"Trains LoRA adapters of rank {lora.rank}: {trained:,} parameters, {trained / whole:.2%} of the "
            f"frozen model's {whole:,}"
        )
    return f"Trains {trained:,} of {whole:,} parameters"


def _verdict(fits: bool, fix: str | None) -> str:
    if fits:
        return "fits"
    return f"too small; {fix}" if fix else "too small"


def _print_lines(console: Console, title: str, lines: Iterable[Line]) -> None:
    table = Table("what", "GB", "how", title=title, title_justify="left")
    table.columns[1].justify = "right"
    for line in lines:
        table.add_row(line.name, f"{line.gb:.2f}", line.how)
    console.print(table)


def print_workers(console: Console, outcomes: Mapping[int, "Outcome"], updates: int) -> None:
    """Print the outcome of simulating `updates` updates, one row per number of rollout workers."""
    table = Table(
        "rollout workers", "step", "videos/s", "rollout idle", "learner idle", "staleness, mean and most",
        title=f"{updates} updates, simulated", title_justify="left",
    )  # fmt: skip
    for n, outcome in outcomes.items():
        table.add_row(
            str(n),
            f"{outcome.step_s:.1f} s",
            f"{outcome.videos_per_s:.2f}",
            f"{outcome.rollout_idle_share:.0%}",
            f"{outcome.learner_idle_share:.0%}",
            f"{outcome.staleness_mean:.1f}, {outcome.staleness_max}",
        )
    console.print(table)


def print_loop(
    console: Console,
    plan: "LoopPlan",
    model: Architecture,
    costs: "LoopCosts",
    measured: Iterable[str],
    updates: int,
    vary: bool,
) -> None:
    """Simulate `updates` updates; print the seconds per update by phase. With `vary`, print one row for each
    variant of the configuration."""
    from cluster.planning.costs import update_costs
    from cluster.planning.workers import LSVQ_TRAIN, variants

    config, answers = plan.config, plan.answers
    found = update_costs(config, model, costs, answers)
    console.print(
        f"{config.learner.ranks} learner ranks and {config.rollout.replicas} engines; answers of "
        f"{answers.mean_tokens:g} tokens, {answers.at_cap:.1%} reach the cap; an update takes the learner "
        f"{found.update_s:.1f} s (lockstep {found.lockstep:.2f}), a checkpoint {found.checkpoint_s:.0f} s. "
        f"Measured: {', '.join(measured) or 'nothing'}; all other times are computed.",
        highlight=False,
    )
    columns = ("update", "push", "evaluation", "checkpoint", "waits", "videos/s", "hours", "staleness")
    title = f"{updates} updates, simulated"
    table = Table("condition", "s per update", *columns, title=title, title_justify="left")
    videos = config.schedule.cohorts_per_update * config.schedule.videos_per_cohort
    for name, variant in (variants(plan) if vary else {"as configured": plan}).items():
        outcome = variant.simulate(model, costs, updates)
        shown = outcome.phases | {"update": outcome.phases["update"] + outcome.phases["early reference"]}
        spent = [shown[phase] for phase in ("update", "push", "evaluation", "checkpoint")]
        table.add_row(
            name,
            f"{outcome.period_s:.1f}",
            *(f"{seconds:.1f}" for seconds in [*spent, max(0.0, outcome.period_s - sum(spent))]),
            f"{videos / outcome.period_s:.1f}",
            f"{variant.run_hours(outcome):.1f}",
            f"{outcome.staleness_mean:.1f}, {outcome.staleness_max}",
        )
    console.print(table)
    console.print(
        f"Seconds of the learner. Hours for {config.schedule.epochs} epochs of LSVQ's {LSVQ_TRAIN:,} videos, "
        "without the start and the evaluations before and after.",
        highlight=False,
    )
