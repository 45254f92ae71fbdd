"""Floating-point operations of an update, by formula. Pure.

    update = 3 x forward (1 forward, 2 backward) + 1 x forward of the frozen reference, if there is one
    forward = 2 x parameters of the linear layers x positions + 4 x width x (query, key) pairs of attention

Positions are text positions, patches of frames, tokens of frames (projector) and answer tokens (output
projection). Causal attention has half of its pairs. What gradient checkpointing computes again does not
count, nor do norms, activations and the patch embedding. Exact for InternVL; the merging layers of Qwen3-VL's
tower are counted at each of its patches and not at each four, a few hundredths of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.planning.architecture import Architecture, Linear

# Dense bfloat16 with float32 sums, in TFLOP/s, from NVIDIA's data sheets. The longest name that fits counts.
PEAK_TFLOPS = {
    "A10": 125.0,
    "A100": 312.0,
    "A30": 165.0,
    "B200": 2250.0,
    "H100": 989.0,
    "H100 PCIe": 756.0,
    "H200": 989.0,
    "L4": 121.0,
    "L40S": 362.0,
    "RTX 4090": 165.2,
    "RTX 6000 Ada": 364.0,
}


@dataclass(frozen=True, slots=True)
class Work:
    """What goes through a model in one pass over an update's groups."""

    text_positions: int
    text_pairs: float
    answer_tokens: int
    patches: int
    patch_pairs: float
    frame_tokens: int


def group_work(
    model: Architecture, frame_px: int, frames: int, prompt: int, answers: Sequence[int], packed: bool
) -> Work:
    """Of one group: packed, prompt and frames once; unpacked, once for every answer."""
    copies = 1 if packed else len(answers)
    alone = prompt**2 / 2
    pairs = alone * copies + sum(n * prompt + n**2 / 2 for n in answers)
    patches = model.vision.patches(frame_px)
    return Work(
        text_positions=copies * prompt + sum(answers),
        text_pairs=pairs,
        answer_tokens=sum(answers),
        patches=copies * frames * patches,
        patch_pairs=float(copies * frames * patches**2),
        frame_tokens=copies * frames * model.vision.tokens(frame_px),
    )


def forward_flops(model: Architecture, work: Work) -> float:
    text, vision = model.text, model.vision
    linears = (
        _parameters(text.linears) * work.text_positions
        + text.hidden * text.vocabulary * work.answer_tokens
        + _parameters(vision.linears) * work.patches
        + _parameters(vision.projector_linears) * work.frame_tokens
    )
    attention = (
        text.layers * text.heads * text.head_dim * work.text_pairs
        + vision.layers * vision.hidden * work.patch_pairs
    )
    return 2.0 * linears + 4.0 * attention


def update_flops(model: Architecture, work: Work, groups: int, reference: bool) -> float:
    """Of an update on `groups` groups like that of `work`."""
    return groups * (4 if reference else 3) * forward_flops(model, work)


def peak_tflops(gpu: str) -> float | None:
    """What the data sheet of the GPU of this name says; None for one that is not listed."""
    fitting = [name for name in PEAK_TFLOPS if _words(name) <= _words(gpu)]
    return PEAK_TFLOPS[max(fitting, key=len)] if fitting else None


def _words(name: str) -> set[str]:
    return set(name.replace("-", " ").split())


def _parameters(linears: Sequence[Linear]) -> int:
    return sum(layer.inputs * layer.outputs * layer.count for layer in linears)
