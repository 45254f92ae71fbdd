"""The shape of a vision-language model, read from its config.json, and its number of parameters. Pure.

Counts are exact for the families listed in `FAMILIES`, layer by layer as transformers builds them, so that a
memory plan needs neither the weights nor torch nor a network.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import ConfigError


class UnknownArchitectureError(ConfigError):
    """A model whose parameters cannot be counted here."""


@dataclass(frozen=True, slots=True)
class Linear:
    """`count` linear layers of one kind; `name` is the last part of their names in the model."""

    name: str
    inputs: int
    outputs: int
    count: int


@dataclass(frozen=True, slots=True)
class TextModel:
    """A decoder with grouped-query attention and a gated MLP."""

    parameters: int
    layers: int
    hidden: int
    mlp: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int

    @property
    def linears(self) -> list[Linear]:
        """All but the output projection."""
        hidden, queries, keys = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim
        return [
            Linear("q_proj", hidden, queries, self.layers),
            Linear("k_proj", hidden, keys, self.layers),
            Linear("v_proj", hidden, keys, self.layers),
            Linear("o_proj", queries, hidden, self.layers),
            Linear("gate_proj", hidden, self.mlp, self.layers),
            Linear("up_proj", hidden, self.mlp, self.layers),
            Linear("down_proj", self.mlp, hidden, self.layers),
        ]

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of all layers in bfloat16."""
        return 2 * self.layers * self.kv_heads * self.head_dim * 2


@dataclass(frozen=True, slots=True)
class VisionTower:
    """An image encoder; `projector_parameters` are those between it and the text model. For one frame, it
    sees `patches` and hands on `tokens`. `linears` are those of the module that transformers calls the
    tower, `projector_linears` those between that module and the text model."""

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
    text: TextModel
    vision: VisionTower

    @property
    def parameters(self) -> int:
        return self.text.parameters + self.vision.parameters + self.vision.projector_parameters


# What counts in the config.json files of these models; https://huggingface.co/NAME/blob/main/config.json.
PUBLISHED: dict[str, dict[str, Any]] = {
    "OpenGVLab/InternVL3-8B-hf": {
        "model_type": "internvl",
        "image_seq_length": 256,
        "downsample_ratio": 0.5,
        "tie_word_embeddings": False,
        "text_config": {
            "model_type": "qwen2",
            "num_hidden_layers": 28,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 151674,
        },
        "vision_config": {
            "num_hidden_layers": 24,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "image_size": [448, 448],
            "patch_size": [14, 14],
            "attention_bias": True,
            "use_mean_pooling": True,
        },
    },
    "OpenGVLab/InternVL3-2B-hf": {
        "model_type": "internvl",
        "image_seq_length": 256,
        "downsample_ratio": 0.5,
        "tie_word_embeddings": False,
        "text_config": {
            "model_type": "qwen2",
            "num_hidden_layers": 28,
            "hidden_size": 1536,
            "intermediate_size": 8960,
            "num_attention_heads": 12,
            "num_key_value_heads": 2,
            "vocab_size": 151674,
        },
        "vision_config": {
            "num_hidden_layers": 24,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "image_size": [448, 448],
            "patch_size": [14, 14],
            "attention_bias": True,
            "use_mean_pooling": True,
        },
    },
    "Qwen/Qwen3-VL-8B-Instruct": {
        "model_type": "qwen3_vl",
        "tie_word_embeddings": False,
        "text_config": {
            "model_type": "qwen3_vl_text",
            "num_hidden_layers": 36,
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "vocab_size": 151936,
        },
        "vision_config": {
            "depth": 27,
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "patch_size": 16,
            "temporal_patch_size": 2,
            "spatial_merge_size": 2,
            "out_hidden_size": 4096,
            "num_position_embeddings": 2304,
            "deepstack_visual_indexes": [8, 16, 24],
        },
    },
}


def read_architecture(model_path: str) -> Architecture:
    """The architecture of a checkpoint folder, or of a hub name in `PUBLISHED`.

    Raises UnknownArchitectureError for a name or a family that is not known here.
    """
    file = Path(model_path).expanduser() / "config.json"
    if file.is_file():
        config = json.loads(file.read_text())
    elif model_path in PUBLISHED:
        config = PUBLISHED[model_path]
    else:
        raise UnknownArchitectureError(
            f"model.path: the size of '{model_path}' is not known here: give a folder with its config.json, "
            f"or one of {', '.join(PUBLISHED)}"
        )
    family = config.get("model_type", "none")
    if family not in FAMILIES:
        raise UnknownArchitectureError(
            f"model.path: parameters of the family '{family}' cannot be counted; {', '.join(FAMILIES)} can"
        )
    return FAMILIES[family](config)


def _text_model(whole: Mapping[str, Any], tied_by_default: bool) -> TextModel:
    config = whole["text_config"]
    tied = whole.get("tie_word_embeddings", tied_by_default)
    hidden, mlp, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    kv_heads, layers = config["num_key_value_heads"], config["num_hidden_layers"]
    head_dim = config.get("head_dim") or hidden // heads
    queries, keys = heads * head_dim, kv_heads * head_dim
    attention = 2 * hidden * queries + 2 * hidden * keys
    # Qwen2 has biases on queries, keys and values, Qwen3 norms on queries and keys instead.
    extra = queries + 2 * keys if config["model_type"] == "qwen2" else 2 * head_dim
    layer = attention + extra + 3 * hidden * mlp + 2 * hidden
    embeddings = config["vocab_size"] * hidden * (1 if tied else 2)
    return TextModel(
        parameters=layers * layer + embeddings + hidden,
        layers=layers,
        hidden=hidden,
        mlp=mlp,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocabulary=config["vocab_size"],
    )


def _internvl(config: Mapping[str, Any]) -> Architecture:
    vision, text = config["vision_config"], _text_model(config, tied_by_default=True)
    hidden, mlp, patch_px = vision["hidden_size"], vision["intermediate_size"], vision["patch_size"][0]
    patches = (vision["image_size"][0] // patch_px) ** 2 + 1
    bias = 3 * hidden if vision["attention_bias"] else 0
    norms_and_scales = 2 * 2 * hidden + 2 * hidden
    layer = 4 * hidden**2 + hidden + bias + 2 * hidden * mlp + mlp + hidden + norms_and_scales
    embeddings = 3 * patch_px**2 * hidden + hidden + hidden + patches * hidden
    last_norm = 0 if vision["use_mean_pooling"] else 2 * hidden
    merged = hidden * round(1 / config["downsample_ratio"]) ** 2
    projector = 2 * merged + merged * text.hidden + text.hidden + text.hidden**2 + text.hidden
    return Architecture(
        text,
        VisionTower(
            parameters=vision["num_hidden_layers"] * layer + embeddings + last_norm,
            projector_parameters=projector,
            layers=vision["num_hidden_layers"],
            hidden=hidden,
            mlp=mlp,
            patches=lambda frame_px: patches,  # every frame is brought to the tower's own size
            tokens=lambda frame_px: config["image_seq_length"],
            linears=[
                Linear(name, hidden, hidden, vision["num_hidden_layers"])
                for name in ("q_proj", "k_proj", "v_proj", "projection_layer")
            ]
            + [
                Linear("fc1", hidden, mlp, vision["num_hidden_layers"]),
                Linear("fc2", mlp, hidden, vision["num_hidden_layers"]),
            ],
            projector_linears=[
                Linear("linear_1", merged, text.hidden, 1),
                Linear("linear_2", text.hidden, text.hidden, 1),
            ],
        ),
    )


def _qwen3_vl(config: Mapping[str, Any]) -> Architecture:
    vision, text = config["vision_config"], _text_model(config, tied_by_default=False)
    hidden, mlp, patch_px = vision["hidden_size"], vision["intermediate_size"], vision["patch_size"]
    merge = vision["spatial_merge_size"]
    layer = 4 * hidden**2 + 4 * hidden + 2 * hidden * mlp + mlp + hidden + 2 * 2 * hidden
    patch_embedding = 3 * vision["temporal_patch_size"] * patch_px**2 * hidden + hidden
    merged, out = hidden * merge**2, vision["out_hidden_size"]
    linear = merged**2 + merged + merged * out + out
    deepstack = len(vision["deepstack_visual_indexes"])
    return Architecture(
        text,
        VisionTower(
            parameters=vision["depth"] * layer + patch_embedding + vision["num_position_embeddings"] * hidden,
            projector_parameters=2 * hidden + linear + deepstack * (2 * merged + linear),
            layers=vision["depth"],
            hidden=hidden,
            mlp=mlp,
            patches=lambda frame_px: (frame_px // patch_px) ** 2,
            tokens=lambda frame_px: (frame_px // (patch_px * merge)) ** 2,
            linears=[
                Linear("qkv", hidden, 3 * hidden, vision["depth"]),
                Linear("proj", hidden, hidden, vision["depth"]),
                Linear("linear_fc1", hidden, mlp, vision["depth"]),
                Linear("linear_fc2", mlp, hidden, vision["depth"]),
                Linear("linear_fc1", merged, merged, 1 + deepstack),
                Linear("linear_fc2", merged, out, 1 + deepstack),
            ],
            projector_linears=[],  # transformers has its mergers in the tower
        ),
    )


FAMILIES: dict[str, Callable[[Mapping[str, Any]], Architecture]] = {
    "internvl": _internvl,
    "qwen3_vl": _qwen3_vl,
}
