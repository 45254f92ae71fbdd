"""Whether the output projection is the embedding: a checkpoint's weights decide it, not its configuration.

The published InternVL checkpoints hold a separate projection, but their configuration does not mention tying,
which transformers 5 reads as "tied". Without ZeRO-3 it compares the two weights and keeps them apart where
they differ; a sharded weight has no values to compare, so transformers would tie them and change the model.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch


def without_tying(config: Any) -> bool:
    """Make `config` load both weights, and return whether it asked to tie them."""
    asked = bool(getattr(config, "tie_word_embeddings", False))
    if asked:
        config.tie_word_embeddings = False
    return asked


def tie_unless_apart(model: Any, missing_keys: Collection[str]) -> None:
    """Tie the output projection of a sharded model to its embedding, unless its checkpoint held another one.

    All ranks call it.

    Args:
        model: loaded under a configuration that `without_tying` changed.
        missing_keys: names of the parameters that the checkpoint did not hold.
    """
    import deepspeed

    projection, embedding = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    name = next(name for name, parameter in model.named_parameters() if parameter is projection)
    if name not in missing_keys:
        with deepspeed.zero.GatheredParameters([projection, embedding]):
            if not torch.equal(projection, embedding):
                return
    model.config.tie_word_embeddings = True
    model.tie_weights()
