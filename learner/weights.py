"""Gathers weights from a ZeRO-3 engine, bucket by bucket.

Exports and all transports of whole models to the engines use `gather_buckets`. All ranks must iterate it in
lockstep, because each bucket is a collective; only rank 0 gets tensors. It merges adapters into the tensors
that it returns, which have the base model's names. The weights in the ZeRO-3 engine do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from learner.lora import ADAPTER, adapter_name, is_adapter, merged

Sent = TypeVar("Sent")

_POLICY_PREFIX = "model."
"""Prefix that `Policy` adds to the parameter names of the Hugging Face model."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight of the model: its Hugging Face name and its parameter. If it has an adapter, also the
    adapter's A [rank, inputs], B [outputs, rank] and scale."""

    name: str
    parameter: nn.Parameter
    adapter: tuple[nn.Parameter, nn.Parameter, float] | None = None

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [self.parameter] if self.adapter is None else [self.parameter, *self.adapter[:2]]

    def value(self) -> Tensor:
        """Return the value, adapter merged, as a new tensor. The parameters must be gathered."""
        whole = self.parameter.detach()
        if self.adapter is None:
            return whole.clone()
        down, up, scale = self.adapter
        return merged(whole, down.detach(), up.detach(), scale)


def model_weights(policy: nn.Module) -> list[Weight]:
    """Return the model's weights in order, each with its adapter. A tied weight appears once."""
    parameters = dict(policy.named_parameters())
    weights = []
    for name, parameter in parameters.items():
        if is_adapter(name):
            continue
        layer = name.removesuffix(".base_layer.weight")
        adapter = None
        if layer != name:
            down, up = (parameters[f"{layer}.{matrix}.{ADAPTER}.weight"] for matrix in ("lora_A", "lora_B"))
            scaling: Any = policy.get_submodule(layer).scaling
            adapter = (down, up, float(scaling[ADAPTER]))
        weights.append(Weight(hf_name(name), parameter, adapter))
    return weights


def hf_name(parameter_name: str) -> str:
    """Return the name of a policy's parameter in transformers and vLLM."""
    return parameter_name.removeprefix(_POLICY_PREFIX).replace(".base_layer.", ".")


def bucket_plan(policy: nn.Module, bucket_bytes: int) -> list[list[Weight]]:
    """Split the weights, in order, into buckets of at most `bucket_bytes`. A larger weight is its own
    bucket."""
    buckets: list[list[Weight]] = []
    filled = 0
    for weight in model_weights(policy):
        size = _numel(weight.parameter) * weight.parameter.element_size()
        if not buckets or filled + size > bucket_bytes:
            buckets.append([])
            filled = 0
        buckets[-1].append(weight)
        filled += size
    return buckets


def gather_buckets(policy: nn.Module, bucket_bytes: int) -> Iterator[dict[str, Tensor]]:
    """Yield full weights by name, one bucket at a time: clones on rank 0, an empty dict on other ranks.

    Every rank must exhaust the iterator. Rank 0 gets clones because a gathered parameter's memory is freed at
    the end of its bucket. The clones are complete when they are yielded, so any stream or thread may read
    them.
    """
    import deepspeed

    rank = torch.distributed.get_rank()
    for bucket in bucket_plan(policy, bucket_bytes):
        with deepspeed.zero.GatheredParameters([p for weight in bucket for p in weight.parameters]):
            tensors = {weight.name: weight.value() for weight in bucket} if rank == 0 else {}
        _finish_copies(tensors)
        yield tensors


def _finish_copies(tensors: dict[str, Tensor]) -> None:
    if any(tensor.is_cuda for tensor in tensors.values()):
        torch.cuda.current_stream().synchronize()


def send_behind(
    buckets: Iterable[dict[str, Tensor]], send: Callable[[dict[str, Tensor]], Sent]
) -> list[Sent]:
    """Return the results of `send` for each bucket. A thread sends a bucket while the next one is gathered.

    At most two buckets are in memory: the third is not gathered before the first has been sent.
    """
    sent: list[Future[Sent]] = []
    with ThreadPoolExecutor(1, "learner-send") as thread:
        for bucket in buckets:
            if sent:
                sent[-1].result()
            sent.append(thread.submit(send, bucket))
        return [future.result() for future in sent]


def gather_adapter(policy: nn.Module) -> dict[str, Tensor]:
    """Gather the adapters' full parameters on rank 0, with names from `adapter_name`. Other ranks get an
    empty dict. All ranks must call it."""
    import deepspeed

    named = [(adapter_name(hf_name(name)), p) for name, p in policy.named_parameters() if is_adapter(name)]
    with deepspeed.zero.GatheredParameters([p for _, p in named]):
        tensors = {n: p.detach().clone() for n, p in named} if torch.distributed.get_rank() == 0 else {}
    _finish_copies(tensors)
    return tensors


def count_parameters(policy: nn.Module) -> tuple[int, int]:
    """Return the numbers of (trainable, frozen) parameters of a sharded policy."""
    counts = {True: 0, False: 0}
    for parameter in policy.parameters():
        counts[parameter.requires_grad] += _numel(parameter)
    return counts[True], counts[False]


def full_shape(parameter: Any) -> list[int]:
    """Return the shape of the full parameter, whether it is partitioned or not."""
    return list(getattr(parameter, "ds_shape", parameter.shape))


def _numel(parameter: Any) -> int:
    """Return the number of elements of the full parameter; a partitioned parameter's own tensor is empty."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))
