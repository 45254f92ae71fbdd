"""The memory plan of a run as a person reads it before renting GPUs."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from cluster.config import RunConfig
from cluster.planning.architecture import Architecture
from cluster.planning.memory import (
    CONTEXT_GB,
    GPU_SIZES_GB,
    SLACK,
    Line,
    learner_budget,
    learner_cure,
    rollout_budget,
    rollout_cure,
    trained_parameters,
)


def print_memory(console: Console, config: RunConfig, model: Architecture) -> None:
    """Both budgets, and for each size of GPU whether they fit and what would make them."""
    learner, rollout = learner_budget(config, model), rollout_budget(config, model)
    counted = max(learner.phases, key=lambda line: line.gb)
    console.print(
        f"{config.model.path}: {model.parameters / 1e9:.3f} billion parameters, of which vision tower "
        f"{model.vision.parameters / 1e9:.3f} and projector {model.vision.projector_parameters / 1e9:.3f}",
        highlight=False,
    )
    console.print(trains(config, model), highlight=False)
    if config.device == "cpu":
        console.print("This configuration runs on the CPU; what follows is for the same on GPUs.")
    held = sum(line.gb for line in learner.held) + counted.gb
    _print_lines(
        console,
        f"Learner: GB on each of {config.learner.ranks} GPUs",
        [
            *learner.held,
            *(Line(p.name if p is counted else f"({p.name})", p.gb, p.how) for p in learner.phases),
            Line("allocator slack", SLACK * held, f"{SLACK:.0%} of the above"),
            Line("context", CONTEXT_GB, "CUDA context, NCCL, library workspaces"),
            Line("in all", learner.total_gb, "without those in brackets: they come at other times"),
        ],
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
    """How much of the model an update changes, in words."""
    lora = config.learner.lora
    trained, whole = trained_parameters(config.learner, model), model.parameters
    if lora is not None:
        return (
            f"Trains LoRA adapters of rank {lora.rank}: {trained:,} parameters, {trained / whole:.2%} of the "
            f"frozen model's {whole:,}"
        )
    return f"Trains {trained:,} of {whole:,} parameters"


def _verdict(fits: bool, cure: str | None) -> str:
    if fits:
        return "fits"
    return f"too small; {cure}" if cure else "too small"


def _print_lines(console: Console, title: str, lines: Iterable[Line]) -> None:
    table = Table("what", "GB", "how", title=title, title_justify="left")
    table.columns[1].justify = "right"
    for line in lines:
        table.add_row(line.name, f"{line.gb:.2f}", line.how)
    console.print(table)
