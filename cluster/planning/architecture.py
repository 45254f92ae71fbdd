"""Reads a vision-language model's shape and number of parameters, without its weights.

transformers builds the model from its config.json on torch's meta device, where parameters have shapes but no
memory. So the counts are those of the model that the learner trains, for any family. This takes under a
second. Importing the libraries takes some more seconds, so only `read_architecture` imports them.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.planning.published import PUBLISHED_FOLDER, folder_name, published_names
from runtime.errors import ConfigError

OUTPUT_PROJECTION = "lm_head.weight"


class UnknownArchitectureError(ConfigError):
    """The model's parameters cannot be counted here."""


@dataclass(frozen=True, slots=True)
class Linear:
    """`count` linear layers of equal shape. `name` is the last part of their module names."""

    name: str
    inputs: int
    outputs: int
    count: int


@dataclass(frozen=True, slots=True)
class TextModel:
    """A decoder with grouped-query attention and a gated MLP. `cached_layers` is the number of layers with a
    KV cache; linear-attention layers have none. `linears` are all linear layers except the output
    projection."""

    parameters: int
    layers: int
    cached_layers: int
    hidden: int
    mlp: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    linears: list[Linear]

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of the keys and values of one token in all layers, in bfloat16."""
        return 2 * self.cached_layers * self.kv_heads * self.head_dim * 2


@dataclass(frozen=True, slots=True)
class VisionTower:
    """An image encoder and its projector, which connects it to the text model.

    `patches` and `tokens` take the side of a square frame in pixels, and return the encoder's number of input
    patches and the number of tokens for the text model. `linears` are the linear layers of the module that
    transformers calls the tower. `projector_linears` are those between that module and the text model.
    """

    parameters: int
    projector_parameters: int
    layers: int
    hidden: int
    mlp: int
    patches: Callable[[int], int]
    tokens: Callable[[int], int]
    linears: list[Linear]
    projector_linears: list[Linear]


@dataclass(frozen=True, slots=True)
class Architecture:
    """The sizes of a model. `family` is the `model_type` of its configuration."""

    family: str
    text: TextModel
    vision: VisionTower

    @property
    def parameters(self) -> int:
        return self.text.parameters + self.vision.parameters + self.vision.projector_parameters


def read_architecture(model_path: str) -> Architecture:
    """Read the architecture of a checkpoint folder, or of a hub name whose configuration is stored in
    `published`.

    Raises UnknownArchitectureError for an unknown name or family.
    """
    folder = Path(model_path).expanduser()
    if not (folder / "config.json").is_file():
        if model_path not in published_names():
            raise UnknownArchitectureError(
                f"model.path: the size of '{model_path}' is not known here: give a folder with its "
                f"config.json, or one of {', '.join(published_names())}"
            )
        folder = PUBLISHED_FOLDER / folder_name(model_path)
    return _architecture(_build(folder))


def known_architecture(model_path: str) -> Architecture | None:
    """Return `read_architecture(model_path)`, or None if the architecture is unknown."""
    try:
        return read_architecture(model_path)
    except UnknownArchitectureError:
        return None


def _build(folder: Path) -> Any:
    """Build the model of `folder` on the meta device."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.utils import logging

    logging.set_verbosity_error()
    try:
        config = AutoConfig.from_pretrained(folder)
        config.tie_word_embeddings = _is_tied(folder, config)
        with torch.device("meta"):
            return AutoModelForImageTextToText.from_config(config)
    except (KeyError, ValueError) as error:
        family = json.loads((folder / "config.json").read_text()).get("model_type", "none")
        raise UnknownArchitectureError(
            f"model.path: parameters of the family '{family}' cannot be counted: transformers builds no such "
            f"model of images and text"
        ) from error


def _is_tied(folder: Path, config: Any) -> bool:
    """Return True if embedding and output projection are one matrix. Uses the weights if the folder has
    them."""
    names = _weight_names(folder)
    if names:
        return not any(name.endswith(OUTPUT_PROJECTION) for name in names)
    written = json.loads((folder / "config.json").read_text())
    if config.model_type == "internvl" and "tie_word_embeddings" not in written:
        # The converter omitted the setting, and all published weights contain a separate projection.
        return bool(written["text_config"].get("tie_word_embeddings", False))
    return bool(config.tie_word_embeddings)


def _weight_names(folder: Path) -> Iterable[str]:
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file():
        names: dict[str, str] = json.loads(index.read_text())["weight_map"]
        return names
    if single.is_file():
        from safetensors import safe_open

        with safe_open(single, "pt") as file:
            return list(file.keys())
    return []


def _architecture(model: Any) -> Architecture:
    tower, decoder, head = (
        model.get_encoder(modality="image"),
        model.get_decoder(),
        model.get_output_embeddings(),
    )
    total = _parameters(model)
    text = _parameters(decoder)
    if head.weight is not model.get_input_embeddings().weight:
        text += _parameters(head)
    in_tower, in_decoder = set(tower.modules()), set(decoder.modules())
    between = [m for m in _linears(model) if m[1] not in in_tower | in_decoder and m[1] is not head]
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    of_tower = _grouped(_linears(tower))
    # Every tower has one of these layers per block.
    attention = next(linear for linear in of_tower if linear.name in ("qkv", "q_proj"))
    patches, tokens = _frame_sizes(model.config)
    return Architecture(
        model.config.model_type,
        TextModel(
            parameters=text,
            layers=config.num_hidden_layers,
            cached_layers=len(kinds) - kinds.count("linear_attention"),
            hidden=config.hidden_size,
            mlp=config.intermediate_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            vocabulary=config.vocab_size,
            linears=_grouped(_linears(decoder)),
        ),
        VisionTower(
            parameters=_parameters(tower),
            projector_parameters=total - text - _parameters(tower),
            layers=attention.count,
            hidden=attention.inputs,
            mlp=max(
                linear.outputs
                for linear in of_tower
                if linear.inputs == attention.inputs
                and linear.count >= attention.count
                and linear.name != "qkv"
            ),
            patches=patches,
            tokens=tokens,
            linears=of_tower,
            projector_linears=_grouped(between),
        ),
    )


def _frame_sizes(config: Any) -> tuple[Callable[[int], int], Callable[[int], int]]:
    """Return two functions that compute the patches and the tokens of a square frame from its side in
    pixels."""
    vision = config.vision_config
    patch_px = vision.patch_size if isinstance(vision.patch_size, int) else vision.patch_size[0]
    if merge := getattr(vision, "spatial_merge_size", None):
        # The processor rounds the frame to a whole number of tokens.
        def tokens(frame_px: int) -> int:
            return max(1, round(frame_px / (patch_px * merge))) ** 2

        return lambda frame_px: tokens(frame_px) * merge**2, tokens
    if config.model_type == "internvl":  # InternVL resizes every frame to the tower's input size
        patches = (vision.image_size[0] // patch_px) ** 2 + 1
        return lambda frame_px: patches, lambda frame_px: config.image_seq_length
    raise UnknownArchitectureError(
        f"model.path: the tokens of a frame are not known for the family '{config.model_type}'"
    )


def _parameters(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _linears(module: Any) -> list[tuple[str, Any]]:
    from torch import nn

    return [(name.rsplit(".", 1)[-1], m) for name, m in module.named_modules() if isinstance(m, nn.Linear)]


def _grouped(linears: Iterable[tuple[str, Any]]) -> list[Linear]:
    counts = Counter((name, m.in_features, m.out_features) for name, m in linears)
    return [Linear(*kind, count) for kind, count in counts.items()]
