"""Seconds that parts of the control loop take: constants with their sources, replaceable by measured values.

No default was measured on a GPU: each is computed or assumed, as its docstring says. A JSON file from
`python -m benchmarks.gpu_smoke --json` replaces the constants that one GPU can measure (`from_smoke`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cluster.config import RunConfig
from cluster.planning.architecture import Architecture
from cluster.planning.engines import Answers, EngineSpeed
from cluster.planning.flops import Passes, forward_flop, lockstep, passes, sizes_of, update_flop
from cluster.planning.memory import trained_parameters
from runtime.errors import ConfigError

BYTES_OF_STATE = 12
"""Bytes per trained parameter in a checkpoint: float32 master weight and AdamW's two moments."""
READ_BYTES_PER_S = 2.6e12
"""Bandwidth of a GPU's memory, assumed: 78 % of the value in the H100's data sheet."""
SMOKE_PASSES = Passes(text=4, vision=4)
"""The passes that the smoke test counts as an update's FLOP, without recomputation."""


class LoopCosts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    engine_step_s: float = Field(0.0082, gt=0)
    """Seconds of one decoding step of an engine. Computed: reading 16 GB of bfloat16 weights (8B) at 2.6 TB/s
    takes 6.2 ms. Assumed: 2 ms of host time."""
    engine_step_s_per_sequence: float = Field(0.000059, ge=0)
    """Additional seconds of a decoding step per sequence. Computed: reading keys and values of 2,100 tokens
    (57 kB each) at 2.6 TB/s takes 46 us. Assumed: 13 us for sampling."""
    prefill_s: float = Field(0.065, ge=0)
    """Seconds to prefill the prompt and frames of one group. Computed at about half of an H100's peak: 1,784
    tokens at 13 GFLOP take 45 ms, and the vision tower takes 20 ms."""
    resume_s: float = Field(0.016, ge=0)
    """Seconds to prefill one interrupted sequence again. Computed: its own tokens, and a quarter of the
    group's prompt, which four sequences share."""
    learner_tflops: float = Field(400.0, gt=0)
    """TFLOP/s that a learner GPU achieves, counting recomputation. Assumed: 40 % of an H100's peak."""
    gather_s: float = Field(1.0, ge=0)
    """Seconds to gather the weights in the learner for one push. Assumed."""
    broadcast_s: float = Field(1.0, ge=0)
    """Seconds to send and load the weights, during which engines are paused. Computed: 16 GB at 25 GB/s, and
    loading."""
    checkpoint_gb_per_s: float = Field(1.0, gt=0)
    """Rate at which all ranks together write a checkpoint to shared storage. Assumed."""
    snapshot_gb_per_s: float = Field(20.0, gt=0)
    """Rate at which a rank's shard is copied to host memory. Assumed: a third of the peak of PCIe 5."""
    decode_s: float = Field(0.5, ge=0)
    """Seconds to decode one video in one decode task. A CPU core takes 0.88 s for 10 s of 1080p
    (`benchmarks.overheads decode`); LSVQ's videos are mostly smaller."""

    def engine_speed(self) -> EngineSpeed:
        return EngineSpeed(self.engine_step_s, self.engine_step_s_per_sequence, self.prefill_s, self.resume_s)


class UpdateCosts(BaseModel):
    """Seconds of the parts of one update."""

    update_s: float
    reference_s: float
    """Seconds for the reference's log-probs. Included in `update_s`."""
    lockstep: float
    checkpoint_s: float
    snapshot_s: float


def update_costs(
    config: RunConfig, model: Architecture, costs: LoopCosts, answers: Answers, skipped: float = 0.0
) -> UpdateCosts:
    """Compute the costs: FLOP of the update, times the lockstep ratio, divided by the FLOP/s of the learner's
    GPUs."""
    cap, ranks = config.rollout.max_completion_tokens, config.learner.ranks
    mean = answers.mean_tokens * (1 - answers.at_cap) + cap * answers.at_cap
    sizes = sizes_of(config, model, round(min(mean, cap)))
    videos = config.schedule.videos_per_cohort * config.schedule.cohorts_per_update
    forward, times = forward_flop(model, sizes, "packed"), passes(config, model)
    in_step = lockstep(config, sizes, videos, skipped).ratio
    per_flop_s = in_step / (ranks * costs.learner_tflops * 1e12)
    reference = Passes(1, 1) if config.learner.kl_coefficient > 0 else Passes(0, 0)
    groups = videos * (1 - skipped)
    gb = trained_parameters(config.learner, model) * BYTES_OF_STATE / 1e9
    return UpdateCosts(
        update_s=update_flop(forward, times, groups) * per_flop_s,
        reference_s=update_flop(forward, reference, groups) * per_flop_s,
        lockstep=in_step,
        checkpoint_s=gb / costs.checkpoint_gb_per_s,
        snapshot_s=gb / ranks / costs.snapshot_gb_per_s,
    )


def read_costs(path: Path) -> tuple[LoopCosts, list[str]]:
    """Read constants from a JSON file: names of `LoopCosts` with values, or a report of
    `benchmarks.gpu_smoke`.

    Returns the costs and the names of the constants that the file replaced. Raises ConfigError.
    """
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ConfigError(f"{path}: holds no JSON object")
        values = from_smoke(found) if "lines" in found else found
        return LoopCosts.model_validate(values), sorted(values)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}: is no JSON: {error}") from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path}: {problems}; the names are {', '.join(LoopCosts.model_fields)}") from None


def from_smoke(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the constants that a smoke report measured.

    | constant | line | its values | | --- | --- | --- | | `learner_tflops` | "update, packed" of step `speed`
    | `tflops`, times 5/4 for recomputation | | `engine_step_s` | "decoding, internvl" of step `engine` |
    `step_s` of a model of `parameters`, plus the time
      to read the additional weights of an 8B model at 2.6 TB/s |
    | `checkpoint_gb_per_s` | "checkpoint round trip" of step `faults` | `gb` / `save_s` |
    | `snapshot_gb_per_s` | "gather to host memory" of step `speed` | `gb` / `s` |

    Raises ConfigError if the report was made at tiny sizes, which give no usable measurements.
    """
    if report.get("tiny"):
        raise ConfigError("the smoke report was made with --tiny: its figures mean nothing")
    values = {line["name"]: line["values"] for line in report["lines"] if line["status"] == "PASS"}
    found = {}
    if update := values.get("update, packed"):
        found["learner_tflops"] = update["tflops"] * 5 / SMOKE_PASSES.text
    if decoding := values.get("decoding, internvl"):
        more_bytes = 2 * max(0.0, 8e9 - decoding["parameters"])
        found["engine_step_s"] = decoding["step_s"] + more_bytes / READ_BYTES_PER_S
    if saved := values.get("checkpoint round trip"):
        found["checkpoint_gb_per_s"] = saved["gb"] / saved["save_s"]
    if moved := values.get("gather to host memory"):
        found["snapshot_gb_per_s"] = moved["gb"] / moved["s"]
    return found
