"""LoRA: trains low-rank matrices added to a model's linear layers, and freezes the model itself.

With A [rank, inputs] and B [outputs, rank], a layer computes W x + alpha / rank * B A x. B is initialised to
zero, so the policy starts as the base model. With its adapters disabled it always equals the base model. peft
replaces the linear layers in place; the rest of the model and the calls of its forward do not change.

Source: https://arxiv.org/abs/2106.09685
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from data.errors import PermanentError
from data.hub import commit_of, hub_name_of
from learner.config import ALL_LINEAR, LANGUAGE_MODEL, LearnerConfig, LoraConfig

ADAPTER = "default"
SEED = 0
"""Seed of the initial A on every rank, so that the initial values do not depend on the number of ranks."""


class LoraTargetError(PermanentError, ValueError):
    """learner.lora.target_modules names a layer that the model lacks. The message lists the possible
    names."""


def add_adapters(model: Any, config: LearnerConfig, lora: LoraConfig) -> None:
    """Freeze `model` and add an adapter to every layer that `lora.target_modules` names.

    Raises:
        LoraTargetError: if a name matches no layer.
    """
    import peft

    made = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=target_layers(model, config, lora),
    )
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        peft.inject_adapter_in_model(made, model, ADAPTER)


def target_layers(model: Any, config: LearnerConfig, lora: LoraConfig) -> list[str]:
    """Return the dotted names of the linear layers that get an adapter.

    The output projection gets none, because its log-probs are computed in chunks. A frozen vision tower gets
    none either.

    Raises:
        LoraTargetError: if a name in `lora.target_modules` matches no such layer.
    """
    tower = None if config.train_vision else model.get_encoder(modality="image")
    frozen = {id(module) for module in tower.modules()} if tower is not None else set()
    head = model.get_output_embeddings()
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head and id(module) not in frozen
    ]
    if lora.target_modules == [ALL_LINEAR]:
        return linear
    if lora.target_modules == [LANGUAGE_MODEL]:
        text = {id(module) for module in model.get_decoder().modules()}
        return [name for name in linear if id(model.get_submodule(name)) in text]
    known = {name.rsplit(".", 1)[-1] for name in linear}
    for target in lora.target_modules:
        if target not in known:
            raise LoraTargetError(
                f"learner.lora.target_modules: {type(model).__name__} has no linear layer '{target}'"
                f"{'' if config.train_vision else ' outside its frozen vision tower'}; it has "
                f"{', '.join(sorted(known))}; ['{ALL_LINEAR}'] takes them all, "
                f"['{LANGUAGE_MODEL}'] those of the language model"
            )
    return [name for name in linear if name.rsplit(".", 1)[-1] in lora.target_modules]


@contextmanager
def base_model(policy: nn.Module) -> Iterator[None]:
    """Disable the adapters of `policy` inside the block, so that it computes the base model, without
    gradients."""
    layers = _adapted(policy)
    for layer in layers:
        layer.enable_adapters(False)
    try:
        with torch.no_grad():
            yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def is_adapter(parameter_name: str) -> bool:
    """Return True if a parameter of the policy belongs to an adapter, False if to the base model."""
    return re.search(rf"\.lora_[AB]\.{ADAPTER}\.weight$", parameter_name) is not None


def adapter_name(parameter_name: str) -> str:
    """Return the name of an adapter's parameter in peft's files, which vLLM reads too.

    Args:
        parameter_name: its name in the Hugging Face model that `add_adapters` was given.
    """
    return f"base_model.model.{parameter_name.replace(f'.{ADAPTER}.', '.')}"


def adapter_scale(policy: nn.Module) -> float | None:
    """Return the factor alpha / rank of the adapters of `policy`; None if it has no adapters."""
    scales = {float(layer.scaling[ADAPTER]) for layer in _adapted(policy)}
    return scales.pop() if scales else None


def merged(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """Compute W + scale * B A in float32, and return it as a new tensor of W's dtype.

    Args:
        weight: W, [outputs, inputs]. down: A, [rank, inputs]. up: B, [outputs, rank].
    """
    return (weight.float() + (up.float() @ down.float()) * scale).to(weight.dtype)


def save_adapter(model: Any, tensors: dict[str, Tensor], folder: Path) -> None:
    """Write an adapter in the format of peft's `save_pretrained`, which `PeftModel.from_pretrained` loads.

    Args:
        model: the Hugging Face model that `add_adapters` was given.
        tensors: the adapters' parameters, with the names from `adapter_name`.
    """
    folder.mkdir(parents=True)
    made = model.peft_config[ADAPTER]
    made.base_model_name_or_path = hub_name_of(model.name_or_path) or model.name_or_path
    made.revision = commit_of(model.name_or_path)
    made.save_pretrained(folder)
    whole = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    save_file(whole, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def _adapted(policy: nn.Module) -> list[Any]:
    """Return the PEFT layers, detected by their `lora_A` attribute. So runs without LoRA need not import
    peft."""
    return [module for module in policy.modules() if hasattr(module, "lora_A")]
