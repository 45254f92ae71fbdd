"""Group attention at the sizes of an 8B model: exactness, the kernels behind it, its speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu_smoke.report import Line, check, skip
from benchmarks.gpu_smoke.sizes import Setting
from learner.group_attention import group_attention, select_attention_kernels
from learner.packing import Span

OPERATOR = "scaled_dot_product_"
UNFUSED = "_math"
KERNEL_WORDS = ("flash", "fmha", "cudnn", "cutlass", "attention", "softmax")
TOLERANCE = 0.02
"""Of relative errors: several times what bfloat16 makes of them, and far below what a wrong mask does."""
QUERY_CHUNK = 256
REPEATS = 3


def attention(setting: Setting) -> Iterator[Line]:
    """Against masked attention in float32, for each prompt, set of answers, and cuDNN on and off."""
    size = setting.sizes.attention
    for cudnn in (True, False):
        if setting.device == "cuda":
            torch.backends.cuda.enable_cudnn_sdp(cudnn)
        elif not cudnn:
            yield skip("attention, cuDNN off", "there is no cuDNN on the CPU")
            continue
        for prompt in size.prompts:
            for answers in size.answers:
                yield _one(setting, Span(prompt, answers), cudnn)
    select_attention_kernels()


def _one(setting: Setting, span: Span, cudnn: bool) -> Line:
    size = setting.sizes.attention
    name = f"attention, prompt {span.prompt}, answers {_range(span)}, cuDNN {'on' if cudnn else 'off'}"
    torch.manual_seed(span.tokens)
    heads = (size.heads, size.kv_heads, size.kv_heads)
    states = [
        torch.randn(1, n, span.tokens, size.head_dim, device=setting.device, dtype=torch.bfloat16)
        for n in heads
    ]
    weights = torch.randn(1, span.tokens, size.heads, size.head_dim, device=setting.device).bfloat16()
    run = partial(_forward_backward, states, weights, span)
    found = run()
    operators, kernels = _profile(run)
    milliseconds = _milliseconds(run, setting.device)
    expected = _reference(states, weights, span)
    errors = [_relative_error(a, b) for a, b in zip(found, expected, strict=True)]
    fused = bool(operators) and not any(UNFUSED in operator for operator in operators)
    return check(
        max(errors) < TOLERANCE and fused,
        name,
        f"errors of output and gradients {', '.join(f'{e:.1e}' for e in errors)} of their size, "
        f"{milliseconds:.2f} ms, {', '.join(operators) or 'no SDPA operator seen'}"
        + (f" ({', '.join(kernels)})" if kernels else ""),
        errors=errors,
        ms=milliseconds,
        operators=operators,
        kernels=kernels,
    )


def _range(span: Span) -> str:
    shortest, longest = min(span.completions), max(span.completions)
    lengths = str(longest) if shortest == longest else f"{shortest} to {longest}"
    return f"{len(span.completions)} x {lengths}"


def _forward_backward(states: list[Tensor], weights: Tensor, span: Span) -> list[Tensor]:
    """Output, and gradients of queries, keys and values."""
    leaves = [s.detach().requires_grad_() for s in states]
    query, key, value = leaves
    out, _ = group_attention(nn.Identity(), query, key, value, None, group_spans=[span])
    return [out.detach(), *torch.autograd.grad(out, leaves, weights)]


def _reference(states: list[Tensor], weights: Tensor, span: Span) -> list[Tensor]:
    """The same in float32 under an explicit mask, a block of queries at a time: all scores at once would take
    tens of GB."""
    query, key, value = (s.detach().float() for s in states)
    groups = query.shape[1] // key.shape[1]
    part = torch.tensor([0] * span.prompt + [i for i, n in enumerate(span.completions, 1) for _ in range(n)])
    part = part.to(query.device)
    place = torch.arange(span.tokens, device=query.device)
    keys, values = key.requires_grad_(), value.requires_grad_()
    outs, query_gradients = [], []
    totals = [torch.zeros_like(keys), torch.zeros_like(values)]
    for start in range(0, span.tokens, QUERY_CHUNK):
        rows = slice(start, start + QUERY_CHUNK)
        chunk = query[:, :, rows].detach().requires_grad_()
        seen = (place[rows, None] >= place) & ((part == 0) | (part[rows, None] == part))
        scores = chunk @ keys.repeat_interleave(groups, 1).transpose(-1, -2) * query.shape[-1] ** -0.5
        mixed = scores.masked_fill(~seen, -torch.inf).softmax(-1) @ values.repeat_interleave(groups, 1)
        out = mixed.transpose(1, 2)
        gradients = torch.autograd.grad(out, (chunk, keys, values), weights[:, rows].float())
        outs.append(out.detach())
        query_gradients.append(gradients[0])
        for total, gradient in zip(totals, gradients[1:], strict=True):
            total += gradient
    return [torch.cat(outs, 1), torch.cat(query_gradients, 2), *totals]


def _relative_error(found: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference over that of the values."""
    return float((found.float() - expected).square().mean().sqrt() / expected.square().mean().sqrt())


def _profile(run: Callable[[], Any]) -> tuple[list[str], list[str]]:
    """(SDPA operators, attention kernels on the GPU) that the profiler names in one run."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiled:
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    events = profiled.events() or []
    on_gpu = {e.name for e in events if e.device_type.name == "CUDA"}
    operators = {e.name.removeprefix("aten::") for e in events if e.name.startswith("aten::")}
    operators = {o for o in operators if OPERATOR in o or "_efficient_attention" in o}
    kernels = {name[:60] for name in on_gpu if any(word in name.lower() for word in KERNEL_WORDS)}
    return sorted(operators - {"scaled_dot_product_attention"}), sorted(kernels)


def _milliseconds(run: Callable[[], Any], device: str) -> float:
    """Of one forward and backward pass."""
    started_s = time.perf_counter()
    for _ in range(REPEATS):
        run()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started_s) / REPEATS * 1000
