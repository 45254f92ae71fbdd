"""Random models of a given size, and groups to train them on. Nothing is downloaded.

The tests' tiny checkpoints give processor, tokenizer and chat template; widths, depths and the size of a
frame are those of a `ModelSize`. The model's vocabulary is larger than the tokenizer's: ids beyond it are
never sampled, and cost the output projection what they would cost in a real model.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu_smoke.sizes import Device, Kind, ModelSize, UpdateSize
from data.prompt import sampleable_token_ids
from data.records import Completion, Group, VideoRef
from learner.inputs import GroupEncoder
from learner.records import RankShard
from tests.checkpoints import make_checkpoint

INTERNVL_PATCH_PX = 14
QWEN_PATCH_PX = 16
MERGE = 2
"""Patches a side that become one token."""


def random_model(
    kind: Kind,
    size: ModelSize,
    folder: Path,
    device: Device,
    seed: int = 0,
    rope: dict[str, Any] | None = None,
) -> Path:
    """Write a model with random weights in bfloat16 to `folder`, unless it is there; returns `folder`.

    Args:
        rope: rotary parameters of the text model; default: those of the tests' checkpoint of this kind.
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    if (folder / "made").exists():
        return folder
    make_checkpoint(kind, folder)
    settings = json.loads((folder / "config.json").read_text())
    _resize(kind, settings, size)
    if rope is not None:
        settings["text_config"]["rope_parameters"] = rope
    (folder / "config.json").write_text(json.dumps(settings))
    processor = AutoProcessor.from_pretrained(folder)
    _resize_frames(kind, processor, size.frame_px)
    processor.save_pretrained(folder)
    config = AutoConfig.from_pretrained(folder)
    torch.manual_seed(seed)
    with torch.device(device):  # a billion random numbers take seconds on a GPU and a minute on a CPU
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder)
    (folder / "made").touch()
    del model
    if device == "cuda":
        torch.cuda.empty_cache()
    return folder


def with_layers(model: Path, layers: int, folder: Path) -> Path:
    """The same weights under a text model of only the first `layers` layers."""
    shutil.copytree(model, folder, copy_function=lambda source, target: Path(target).symlink_to(source))
    settings = json.loads((folder / "config.json").read_text())
    settings["text_config"]["num_hidden_layers"] = layers
    settings["text_config"].pop("layer_types", None)
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def random_groups(
    model: Path, size: ModelSize, frames: int, answers: Sequence[Sequence[int]], seed: int = 0
) -> tuple[list[Group], list[np.ndarray]]:
    """Groups with answers of the given lengths and the log-probs of a uniform choice; and their frames."""
    from PIL import Image
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(model)
    rng = np.random.default_rng(seed)
    words = sampleable_token_ids(processor)
    logprob = -math.log(len(words))
    pixels = [random_frames(frames, size.frame_px, rng) for _ in answers]
    prompt = GroupEncoder(processor).prompt_ids([Image.fromarray(frame) for frame in pixels[0]])
    groups = [
        Group(
            VideoRef(f"v{number}", f"/v{number}.mp4", frames),
            prompt,
            [
                Completion(rng.choice(words, n).tolist(), [logprob] * n, "", "length", [0] * n)
                for n in lengths
            ],
        )
        for number, lengths in enumerate(answers)
    ]
    return groups, pixels


def random_shard(
    model: Path, size: ModelSize, update: UpdateSize, seed: int = 0
) -> tuple[RankShard, list[np.ndarray]]:
    """All of one update, for a single rank. Advantages are as a group's: their mean is 0."""
    answers = [[update.answer_tokens] * update.completions] * update.videos
    groups, frames = random_groups(model, size, update.frames, answers, seed)
    rng = np.random.default_rng(seed + 1)
    drawn = rng.standard_normal((update.videos, update.completions))
    advantages = (drawn - drawn.mean(1, keepdims=True)).tolist()
    return shard_of(groups, advantages), frames


def shard_of(groups: list[Group], advantages: list[list[float]]) -> RankShard:
    completions = sum(len(group.completions) for group in groups)
    return RankShard(groups, advantages, False, completions, sum(group.n_tokens for group in groups))


def random_frames(count: int, px: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 [count, px, px, 3] of coloured blocks."""
    coarse = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(px // 8 + 1, axis=1).repeat(px // 8 + 1, axis=2)[:, :px, :px].copy()


def _resize(kind: Kind, settings: dict[str, Any], size: ModelSize) -> None:
    """Change the sizes in a configuration as it is saved."""
    text, vision = settings["text_config"], settings["vision_config"]
    text |= {
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "intermediate_size": size.mlp,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "vocab_size": size.vocabulary,
        "max_position_embeddings": 32_768,
        "tie_word_embeddings": size.tied,
    }
    text.pop("layer_types", None)  # one entry a layer: the configuration fills it in
    # A layer's outputs are then as large as its inputs, so that log-probs depend on what the model is shown.
    text["initializer_range"] = size.hidden**-0.5
    vision["initializer_range"] = size.vision_hidden**-0.5
    settings["tie_word_embeddings"] = size.tied
    vision |= {"hidden_size": size.vision_hidden, "intermediate_size": size.vision_mlp}
    if kind == "internvl":
        side = size.frame_px // INTERNVL_PATCH_PX
        vision |= {
            "num_hidden_layers": size.vision_layers,
            "num_attention_heads": size.vision_heads,
            "image_size": [size.frame_px, size.frame_px],
        }
        settings["image_seq_length"] = (side // MERGE) ** 2
    else:
        text |= {"head_dim": size.head_dim}
        half = size.head_dim // 2
        rope = text.get("rope_parameters") or {}
        # As Qwen3-VL has it: 24, 20 and 20 of the 64 frequencies of a head of 128.
        section = [half - 2 * (half * 5 // 16), half * 5 // 16, half * 5 // 16]
        text["rope_parameters"] = rope | {"mrope_section": section}
        vision |= {
            "depth": size.vision_layers,
            "num_heads": size.vision_heads,
            "out_hidden_size": size.hidden,
            "deepstack_visual_indexes": list(size.deepstack),
            "num_position_embeddings": (size.frame_px // QWEN_PATCH_PX) ** 2,
        }


def _resize_frames(kind: Kind, processor: Any, px: int) -> None:
    if kind == "internvl":
        side = {"height": px, "width": px}
        processor.image_processor.size = side
        processor.video_processor.size = side
        processor.image_seq_length = (px // INTERNVL_PATCH_PX // MERGE) ** 2
    else:
        # The limits of a published processor, lowered to what a tiny frame has.
        limits = {"shortest_edge": min(65_536, px * px), "longest_edge": 16_777_216}
        processor.image_processor.size = limits
