"""Decides from a checkpoint's weights, not its configuration, whether to tie output projection and embedding.

The published InternVL checkpoints contain a separate projection, but their configuration does not mention
tying, which transformers 5 reads as "tied". Without ZeRO-3 transformers compares the two weights and keeps
them separate if they differ. With ZeRO-3 it has no values to compare, so it would tie them and change the
model.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch


def without_tying(config: Any) -> bool:
    """Turn off tying in `config`, so that both weights are loaded. Returns True if tying was on."""
    asked = bool(getattr(config, "tie_word_embeddings", False))
    if asked:
        config.tie_word_embeddings = False
    return asked


def tie_unless_apart(model: Any, missing_keys: Collection[str]) -> None:
    """Tie a sharded model's output projection to its embedding, unless the checkpoint has a different
    projection.

    All ranks must call it.

    Args:
        model: loaded with a configuration that `without_tying` changed.
        missing_keys: names of the parameters that the checkpoint lacks.
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
