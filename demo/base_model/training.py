"""A small training loop that can be stopped at any step and resumed.

All randomness in a step is seeded by (seed, stage, step). A checkpoint therefore needs only the parameters,
AdamW's moments and the step number; it is a safetensors file.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

logger = logging.getLogger(__name__)

MAX_GRAD_NORM = 1.0
LOG_EVERY_STEPS = 25
CHECKPOINT_EVERY_STEPS = 200


@dataclass(frozen=True, slots=True)
class Schedule:
    """Learning rate by step: linear warm-up, then cosine decay to a fiftieth of the peak."""

    steps: int
    peak_lr: float
    warmup_steps: int = 50

    def lr(self, step: int) -> float:
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        cosine = 0.5 + 0.5 * math.cos(math.pi * step / max(1, self.steps))
        return self.peak_lr * warm * (0.02 + 0.98 * cosine)


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the recipe, with the paths of its checkpoint, its result and the shared log."""

    name: str
    folder: Path
    log: Path

    @property
    def checkpoint(self) -> Path:
        return self.folder / f"{self.name}.partial.safetensors"

    @property
    def result(self) -> Path:
        return self.folder / f"{self.name}.safetensors"


StepLoss = Callable[[int], tuple[Tensor, Mapping[str, float]]]


def train(
    stage: Stage,
    parameters: Mapping[str, nn.Parameter],
    loss_of_step: StepLoss,
    schedule: Schedule,
    *,
    lr_scale: Mapping[str, float] | None = None,
    weight_decay: float = 0.0,
    evaluate: Callable[[], Mapping[str, float]] | None = None,
    evaluate_every_steps: int = 500,
) -> None:
    """Minimise `loss_of_step(step)` with AdamW. Resume from the stage's checkpoint if it exists.

    Args:
        parameters: the parameters to train, by name.
        loss_of_step: returns the loss and figures to log; it must depend only on parameters and step.
        lr_scale: factors of the learning rate, by prefix of the parameter's name; default: 1.
        evaluate: returns further figures, logged every `evaluate_every_steps` and at the end.
    """
    scales = lr_scale or {}
    scale_of = {name: next((s for p, s in scales.items() if name.startswith(p)), 1.0) for name in parameters}
    optimizer = torch.optim.AdamW(
        [{"params": [p], "scale": scale_of[name]} for name, p in parameters.items()],
        lr=schedule.peak_lr,
        weight_decay=weight_decay,
    )
    first = _restore(stage.checkpoint, parameters, optimizer) if stage.checkpoint.exists() else 0
    if first:
        logger.info("%s: resuming from step %d of %d", stage.name, first, schedule.steps)
    started_s = time.monotonic()
    for step in range(first, schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = group["scale"] * schedule.lr(step)
        loss, figures = loss_of_step(step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), MAX_GRAD_NORM)
        optimizer.step()
        last = step + 1 == schedule.steps
        if step % LOG_EVERY_STEPS == 0 or last:
            row = {"step": step + 1, "loss": loss.item(), **figures, "seconds": time.monotonic() - started_s}
            if evaluate is not None and (last or (step and step % evaluate_every_steps == 0)):
                row |= evaluate()
            record(stage, row)
        if (step + 1) % CHECKPOINT_EVERY_STEPS == 0 and not last:
            _save(stage.checkpoint, parameters, optimizer, step + 1)


def record(stage: Stage, row: Mapping[str, object]) -> None:
    """Append a line to the recipe's log file, and send it to the logger."""
    rounded = {name: round(v, 4) if isinstance(v, float) else v for name, v in row.items()}
    stage.log.parent.mkdir(parents=True, exist_ok=True)
    with stage.log.open("a", encoding="utf-8") as log:
        log.write(json.dumps({"stage": stage.name, **rounded}) + "\n")
    logger.info("%s %s", stage.name, " ".join(f"{name}={value}" for name, value in rounded.items()))


def finish(stage: Stage, tensors: Mapping[str, Tensor]) -> None:
    """Write the stage's result and remove its checkpoint."""
    _write(stage.result, tensors)
    stage.checkpoint.unlink(missing_ok=True)


def step_rng(seed: int, stage: Stage, step: int) -> np.random.Generator:
    """The random generator of one step."""
    return np.random.default_rng([seed, *stage.name.encode(), step])


def _save(
    path: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, step: int
) -> None:
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        tensors[f"parameter/{name}"] = parameter
        for moment in ("exp_avg", "exp_avg_sq"):
            tensors[f"{moment}/{name}"] = optimizer.state[parameter][moment]
    _write(path, tensors, {"step": str(step)})


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".writing")
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, partial, metadata)
    partial.replace(path)


def _restore(path: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> int:
    with safe_open(path, framework="pt") as saved:
        step = int(saved.metadata()["step"])
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(saved.get_tensor(f"parameter/{name}"))
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(step)),
                    "exp_avg": saved.get_tensor(f"exp_avg/{name}"),
                    "exp_avg_sq": saved.get_tensor(f"exp_avg_sq/{name}"),
                }
    return step
