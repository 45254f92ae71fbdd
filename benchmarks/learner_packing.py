"""The update with a video's prompt encoded once for its group, against once for each completion.

    python -m benchmarks.learner_packing --json packing.json
    python -m benchmarks.learner_packing --device cuda

Forward, backward and optimizer step under real ZeRO-3. Both sides compute log-probs of completion tokens
only, in the same chunks; the unpacked one batches its completions, under two token budgets of which the
faster is the baseline. The sides are processes of their own that take turns, so that what else the machine
does slows both.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.learner_side import LearnerSide, Memory, UpdateCost
from benchmarks.machine import describe_machine, write_figures
from benchmarks.small_model import make_batch, make_small_model
from learner.config import LearnerConfig
from learner.zero import Device
from tests.ranks import Batch

HEADLINE = (6, 8)
TABLE = ((6, 4), (6, 16), (2, 8), (12, 8))
"""(frames, completions): around the headline, one of the two at a time."""
PASS_TOKENS = (16384, 4096, 2048)
PACKED = "packed"


@dataclass(frozen=True, slots=True)
class Point:
    """Costs of the sides at one size, by side and turn."""

    frames: int
    completions: int
    prompt_tokens: int
    costs: Mapping[str, Sequence[UpdateCost]]

    @property
    def baseline(self) -> str:
        """The unpacked side that took the least of the processor."""
        unpacked = [name for name in self.costs if name != PACKED]
        return min(unpacked, key=lambda name: median(c.processor_s for c in self.costs[name]))

    def row(self, completion_tokens: int) -> dict[str, Any]:
        """Medians over turns; a ratio is that of two neighbouring turns, unpacked over packed."""
        ours, theirs = self.costs[PACKED], self.costs[self.baseline]
        return {
            "frames": self.frames,
            "G": self.completions,
            "prompt tokens": self.prompt_tokens,
            "token ratio": token_ratio(self.prompt_tokens, self.completions, completion_tokens),
            "packed s": median(c.clock_s for c in ours),
            "unpacked s": median(c.clock_s for c in theirs),
            "ratio": median(b.clock_s / a.clock_s for a, b in zip(ours, theirs, strict=True)),
            "packed processor s": median(c.processor_s for c in ours),
            "unpacked processor s": median(c.processor_s for c in theirs),
            "processor ratio": median(
                b.processor_s / a.processor_s for a, b in zip(ours, theirs, strict=True)
            ),
        }


def token_ratio(prompt_tokens: int, completions: int, completion_tokens: int) -> float:
    """Tokens that go through the text model unpacked, over those packed."""
    return (
        completions * (prompt_tokens + completion_tokens) / (prompt_tokens + completions * completion_tokens)
    )


def take_turns(sides: Mapping[str, LearnerSide], batch: Batch, turns: int) -> dict[str, list[UpdateCost]]:
    costs: dict[str, list[UpdateCost]] = {name: [] for name in sides}
    for _ in range(turns):
        for name, side in sides.items():
            costs[name].append(side.update(batch))
            print(f"{name}: {costs[name][-1]}", flush=True)
    return costs


def memory_row(side: str, memory: Memory) -> dict[str, Any]:
    return {
        "side": side,
        "before MB": round(memory.before_mb),
        "peak MB": round(memory.peak_mb),
        "rise MB": round(memory.rise_mb),
    }


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    device: Device = arguments.device
    model = make_small_model(folder / "model")

    def batch(frames: int, completions: int, tokens: int = arguments.completion_tokens) -> Batch:
        return make_batch(model, max(arguments.videos, arguments.ranks), frames, completions, tokens)

    def config(packing: str, pass_tokens: int) -> LearnerConfig:
        return LearnerConfig.model_validate(
            {
                "ranks": arguments.ranks,
                "lr": 1e-6,
                "kl_coefficient": arguments.kl,
                "gradient_checkpointing": arguments.gradient_checkpointing,
                "packing": packing,
                "micro_batch_tokens": pass_tokens,
            }
        )

    configs = {PACKED: config("group", PASS_TOKENS[0])} | {
        f"unpacked, {tokens} tokens a pass": config("none", tokens) for tokens in PASS_TOKENS
    }
    points: list[Point] = []
    with ExitStack() as stack:
        sides = {
            name: stack.enter_context(LearnerSide(c, model, device, arguments.threads))
            for name, c in configs.items()
        }
        for side in sides.values():
            side.update(batch(1, 2, 16))
        for frames, completions in (HEADLINE, *TABLE):
            work = batch(frames, completions)
            if not points:
                costs = take_turns(sides, work, arguments.repeats)
                memory = [memory_row(name, side.memory()) for name, side in sides.items()]
            else:
                kept = {name: sides[name] for name in (PACKED, points[0].baseline)}
                costs = take_turns(kept, work, arguments.table_repeats) if arguments.table_repeats else {}
            if costs:
                points.append(Point(frames, completions, len(work.groups[0].prompt_token_ids), costs))
    return {
        "machine": describe_machine(),
        "device": device,
        "ranks": arguments.ranks,
        "threads": arguments.threads,
        "completion_tokens": arguments.completion_tokens,
        "baseline": points[0].baseline,
        "turns": {
            name: [(round(c.clock_s, 2), round(c.processor_s, 2)) for c in costs]
            for name, costs in points[0].costs.items()
        },
        "updates": [point.row(arguments.completion_tokens) for point in points],
        "memory": memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="turns of each side at 6 frames, G = 8")
    parser.add_argument(
        "--table-repeats", type=int, default=1, help="turns at other sizes; 0 leaves them out"
    )
    parser.add_argument("--videos", type=int, default=1, help="groups of an update, at least one a rank")
    parser.add_argument("--completion-tokens", type=int, default=200)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of a rank")
    parser.add_argument("--kl", type=float, default=0.0, help="above 0, both sides compute a reference, too")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="learner-packing-") as folder:
        figures = measure(arguments, Path(folder))
    write_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
