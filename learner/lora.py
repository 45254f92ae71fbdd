"""LoRA: small matrices beside a model's linear layers are trained; the model itself stays as it was loaded.

With A [rank, inputs] and B [outputs, rank], a layer computes W x + alpha / rank * B A x. B starts at zero, so
the policy starts as the base model, and with the adapters off it is the base model at any time. peft injects
the matrices into the layers, in place: module tree and forward passes are those of the model without them.

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
"""A is drawn from this seed on every rank, so that a run is the same on any number of ranks."""


class LoraTargetError(PermanentError, ValueError):
    """learner.lora.target_modules names a layer that the model has not; says which ones it has."""


def add_adapters(model: Any, config: LearnerConfig, lora: LoraConfig) -> None:
    """Freeze `model` and put an adapter beside every layer that `lora.target_modules` names.

    Raises:
        LoraTargetError: for a name that no layer has.
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
    """Dotted names of the linear layers that get an adapter.

    The output projection gets none (its log-probs are computed in chunks), nor does a frozen vision tower.

    Raises:
        LoraTargetError: for a name in `lora.target_modules` that none of them has.
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
    """Inside, the adapters of `policy` are off: it computes what the base model does. Without gradients."""
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
    """Whether a parameter of the policy is an adapter's, and not the base model's."""
    return re.search(rf"\.lora_[AB]\.{ADAPTER}\.weight$", parameter_name) is not None


def adapter_name(parameter_name: str) -> str:
    """The name of an adapter's parameter in peft's files, which vLLM reads too.

    Args:
        parameter_name: its name in the Hugging Face model that `add_adapters` was given.
    """
    return f"base_model.model.{parameter_name.replace(f'.{ADAPTER}.', '.')}"


def adapter_scale(policy: nn.Module) -> float | None:
    """What the adapters of `policy` are scaled by; None if it has none."""
    scales = {float(layer.scaling[ADAPTER]) for layer in _adapted(policy)}
    return scales.pop() if scales else None


def merged(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """W + scale * B A, a new tensor of W's type, added up in float32.

    Args:
        weight: W, [outputs, inputs]. down: A, [rank, inputs]. up: B, [outputs, rank].
    """
    return (weight.float() + (up.float() @ down.float()) * scale).to(weight.dtype)


def save_adapter(model: Any, tensors: dict[str, Tensor], folder: Path) -> None:
    """Write an adapter as peft's own `save_pretrained` does; `PeftModel.from_pretrained` loads it.

    Args:
        model: the Hugging Face model that `add_adapters` was given.
        tensors: its adapters' parameters by `adapter_name`.
    """
    folder.mkdir(parents=True)
    made = model.peft_config[ADAPTER]
    made.base_model_name_or_path = hub_name_of(model.name_or_path) or model.name_or_path
    made.revision = commit_of(model.name_or_path)
    made.save_pretrained(folder)
    whole = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    save_file(whole, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def _adapted(policy: nn.Module) -> list[Any]:
    """peft's layers, told by what they hold: peft itself is imported by those alone who train with it."""
    return [module for module in policy.modules() if hasattr(module, "lora_A")]
