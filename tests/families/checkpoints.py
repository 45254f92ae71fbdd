"""A published model made small: its own files, the sizes that a `Family` lists replaced, and random weights.

Everything else is as published: rope type and theta, tiles, pixel limits, tying, processor options, chat
template. So a family is tested with the settings that people load, and not with those that a library
defaults to.
"""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.planning.published import PUBLISHED_FOLDER, folder_name

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Family:
    """A published checkpoint and how to shrink it.

    `sizes` maps dotted names in config.json to the tiny value. Besides them only the size of the vocabulary
    changes, and the ids in `token_ids`, which name tokens of the tiny vocabulary.
    """

    hub_name: str
    template: str
    sizes: dict[str, Any]
    token_ids: dict[str, str]
    special_tokens: list[str]
    tied: bool = False
    """Whether the published weights hold one matrix for embedding and output projection."""
    named_tokens: dict[str, str] = field(default_factory=dict)
    bos_token: str | None = None
    eos_token: str = "<|im_end|>"
    pad_token: str = "<|endoftext|>"


def published(hub_name: str, file: str = "config.json") -> dict[str, Any]:
    """One of the JSON files of a published checkpoint."""
    content: dict[str, Any] = json.loads((PUBLISHED_FOLDER / folder_name(hub_name) / file).read_text())
    return content


def make_family(family: Family, out: Path, seed: int = 0) -> Path:
    """Write a tiny checkpoint of `family` to `out`, with random weights. Returns `out`.

    Weights are larger than at a usual initialisation, so that log-probs visibly depend on the frames.
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    shutil.copytree(PUBLISHED_FOLDER / folder_name(family.hub_name), out, dirs_exist_ok=True)
    shutil.copy(TEMPLATES / f"{family.template}.jinja", out / "chat_template.jinja")
    tokenizer = make_tokenizer(family)
    tokenizer.save_pretrained(out)
    (out / "config.json").write_text(json.dumps(shrunk_config(family, tokenizer), indent=2))
    torch.manual_seed(seed)
    config = AutoConfig.from_pretrained(out)
    config.tie_word_embeddings = family.tied
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                scale = 0.5 if "embed" in name else 0.15
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    weights_only = out / ".weights"
    model.save_pretrained(weights_only)
    for file in [*weights_only.glob("*.safetensors*"), weights_only / "generation_config.json"]:
        file.rename(out / file.name)
    shutil.rmtree(weights_only)
    return out


def shrunk_config(family: Family, tokenizer: Any) -> dict[str, Any]:
    """The published config.json with `family.sizes` and the ids of the tiny vocabulary."""
    config = published(family.hub_name)
    for name, value in family.sizes.items():
        _replace(config, name, value)
    for name, token in family.token_ids.items():
        _replace(config, name, tokenizer.convert_tokens_to_ids(token))
    text = config.get("text_config", config)
    text["vocab_size"] = vocabulary_size(tokenizer)
    return config


def vocabulary_size(tokenizer: Any) -> int:
    return (len(tokenizer) + 63) // 64 * 64


def _replace(config: dict[str, Any], dotted: str, value: Any) -> None:
    *path, last = dotted.split(".")
    for part in path:
        config = config[part]
    if last not in config:
        raise KeyError(f"{dotted} is not in the published config.json: there is nothing to replace")
    config[last] = value


def make_tokenizer(family: Family) -> Any:
    """A byte-level BPE of a few hundred words with Qwen's splitting rule, and the family's special tokens."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    raw = Tokenizer(models.BPE())
    raw.normalizer = normalizers.NFC()
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    corpus = [
        f"<think>The video is sharp with little blur and noise.</think><answer>{score / 100:.2f}</answer>"
        for score in range(100, 500, 7)
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=480, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    raw.train_from_iterator(corpus, trainer)
    state = json.loads(raw.to_str())["model"]
    merges = [tuple(pair) for pair in state["merges"]]
    named = {"extra_special_tokens": family.named_tokens} if family.named_tokens else {}
    tokenizer = Qwen2Tokenizer(
        vocab=state["vocab"],
        merges=merges,
        bos_token=family.bos_token,
        eos_token=family.eos_token,
        pad_token=family.pad_token,
        unk_token=family.pad_token,
        **named,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": family.special_tokens})
    if family.template == "glm4v":
        # GLM's tokenizer has no class of its own.
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer._tokenizer,
            bos_token=family.bos_token,
            eos_token=family.eos_token,
            pad_token=family.pad_token,
            unk_token=family.pad_token,
            **named,
        )
    return tokenizer
