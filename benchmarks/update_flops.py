"""What an update has to compute, and the seconds that takes: arithmetic from a model's sizes, no GPU needed.

    python -m benchmarks.update_flops configs/internvl3-8b.toml --learner.ranks=8
    python -m benchmarks.update_flops configs/internvl3-8b.toml --answer-tokens=800 --tflops=250

`cluster.planning.flops` says what is counted. Needs neither weights nor torch.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cluster.config import RunConfig, load_config
from cluster.planning.architecture import Architecture, read_architecture
from cluster.planning.flops import (
    forward_flop,
    lockstep,
    passes,
    sizes_of,
    text_flop_per_token,
    update_flop,
    vision_flop_per_frame,
)
from cluster.planning.memory import trained_parameters

LAYOUTS = ("packed", "frames once", "answer by answer")


def pass_gb(config: RunConfig, model: Architecture) -> tuple[float, float]:
    """What ZeRO-3 moves between ranks for one pass: parameters gathered (by the reference, forward and
    backward) and gradients reduced, bfloat16 both."""
    learner = config.learner
    gathers = 3 if learner.kl_coefficient > 0 else 2
    return gathers * 2 * model.parameters / 1e9, 2 * trained_parameters(learner, model) / 1e9


def report(config: RunConfig, answer_tokens: int, skipped: float, tflops: Sequence[float]) -> list[str]:
    model = read_architecture(config.model.path)
    sizes = sizes_of(config, model, answer_tokens)
    videos = config.schedule.videos_per_cohort * config.schedule.cohorts_per_update
    groups = videos * (1 - skipped)
    times, ranks = passes(config, model), config.learner.ranks
    token, frames = text_flop_per_token(model), vision_flop_per_frame(model, sizes.frame_px) * sizes.frames
    lines = [
        f"{config.model.path}: {groups:g} groups of {sizes.answers} answers of {answer_tokens} tokens to "
        f"{sizes.frames} frames, {sizes.prompt_tokens} tokens of prompt",
        f"a text token, forward: {token / 1e9:.2f} GFLOP; an update takes {times.text:.3g} times that, "
        f"{times.text * token / 1e9:.1f} GFLOP",
        f"a video's frames, forward: {frames / 1e12:.2f} TFLOP; an update takes {times.vision:.3g} times "
        f"that, {times.vision * frames / 1e12:.1f} TFLOP",
    ]
    packed = update_flop(forward_flop(model, sizes, "packed"), times, groups)
    for layout in LAYOUTS:
        forward = forward_flop(model, sizes, layout)
        shares = ", ".join(
            f"{name} {part / forward.total:.0%}"
            for name, part in (
                ("linear layers", forward.text),
                ("attention", forward.attention),
                ("output projection", forward.head),
                ("vision", forward.vision),
            )
        )
        total = update_flop(forward, times, groups)
        lines.append(f"{layout}: {total / 1e15:.2f} PFLOP, {total / packed:.2f} x packed ({shares})")
    step = lockstep(config, sizes, videos, skipped)
    gathered_gb, reduced_gb = pass_gb(config, model)
    lines.append(
        f"{ranks} ranks in step: {step.ratio:.2f} x their share of the tokens, in {step.passes:.1f} passes; "
        f"each gathers {gathered_gb:.1f} GB of parameters and reduces {reduced_gb:.1f} GB of gradients"
    )
    share = packed * step.ratio / ranks / 1e12
    lines += [f"packed, {ranks} GPUs at {rate:g} TFLOP/s: {share / rate:.1f} s an update" for rate in tflops]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("preset", type=Path)
    parser.add_argument("--answer-tokens", type=int, default=300, help="mean length of an answer (300)")
    parser.add_argument("--skipped", type=float, default=0.0, help="share of groups without variance (0)")
    parser.add_argument(
        "--tflops", type=float, nargs="+", default=[400.0, 250.0], help="achieved by each GPU (400 and 250)"
    )
    given, overrides = parser.parse_known_args()
    config = load_config(given.preset, overrides)
    print("\n".join(report(config, given.answer_tokens, given.skipped, given.tflops)))


if __name__ == "__main__":
    main()
