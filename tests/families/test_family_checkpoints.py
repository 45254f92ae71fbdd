"""The tiny checkpoints are the published ones but for the sizes that they list."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data.prompt import prompt_text
from tests.families.catalogue import FAMILIES
from tests.families.checkpoints import make_family, make_tokenizer, published, shrunk_config


def flat(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_but_the_listed_sizes_differs_from_the_published_file(name: str) -> None:
    family = FAMILIES[name]
    tiny = dict(flat(shrunk_config(family, make_tokenizer(family))))
    original = dict(flat(published(family.hub_name)))
    assert tiny.keys() == original.keys()
    changed = {key for key in tiny if tiny[key] != original[key]}
    vocabulary = {key for key in tiny if key.endswith("vocab_size")}
    assert changed <= family.sizes.keys() | family.token_ids.keys() | vocabulary
    assert not any("theta" in key or "rope_type" in key or "tie_" in key for key in changed)


def test_the_model_writes_the_tag_that_opens_its_reasoning(tmp_path: Path) -> None:
    """Qwen3.5's template writes it, and an answer without it would not be well formed."""
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(make_family(FAMILIES["qwen3_5"], tmp_path))
    whole = processor.apply_chat_template(
        [{"role": "user", "content": "?"}], tokenize=False, add_generation_prompt=True
    )
    assert whole.endswith("assistant\n<think>\n")
    assert prompt_text(processor, 2).endswith("<|im_start|>assistant\n")
