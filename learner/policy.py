"""The policy: a Hugging Face vision-language model that returns the log-probs of completions.

It is one module with one forward. So on every rank ZeRO-3's hooks run in the same order, for any number of
rows, completions or log-prob chunks.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from data.errors import PermanentError
from learner.config import LearnerConfig
from learner.group_attention import attend_within_groups
from learner.inputs import MicroBatch
from learner.lora import add_adapters
from learner.packing import follow_prompt
from learner.records import Layout

# Families that accept position ids for a packed row: those with plain token positions, and those with M-RoPE.
_PACKABLE_FAMILIES = frozenset({"internvl", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "glm4v"})


class UnsupportedModel(PermanentError, ValueError):
    """The learner's settings do not allow this model. The message names the setting."""


class LogProbHead(nn.Module):
    """Replaces a model's output projection: computes log-probs of given tokens from hidden states.

    Logits exist for `chunk_tokens` positions at a time and are recomputed in the backward pass. All chunks
    are computed within one call, because ZeRO-3 gathers the weight once per call and all ranks must make the
    same number of calls.
    """

    barred: Tensor

    def __init__(
        self,
        projection: nn.Linear,
        sampleable: list[int],
        vocabulary: int,
        temperature: float,
        chunk_tokens: int,
    ) -> None:
        super().__init__()
        self.weight = projection.weight
        self.bias = projection.bias
        self.temperature = temperature
        self.chunk_tokens = chunk_tokens
        # DeepSpeed does not move the buffers of a model that was sharded while loading.
        barred = torch.ones(vocabulary, dtype=torch.bool, device=projection.weight.device)
        barred[sampleable] = False
        self.register_buffer("barred", barred, persistent=False)

    def forward(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probs of `targets` [N] given `hidden` [N, H], and entropies without gradient; float32
        [N] each.

        They are of the engine's distribution: divided by the temperature, and without tokens that must not be
        sampled.
        """
        spans = [
            (h, t)
            for h, t in zip(hidden.split(self.chunk_tokens), targets.split(self.chunk_tokens), strict=True)
        ]
        if len(spans) > 1 and torch.is_grad_enabled():
            parts = [checkpoint(self._chunk, h, t, use_reentrant=False) for h, t in spans]
        else:
            parts = [self._chunk(h, t) for h, t in spans]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

    def _chunk(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = nn.functional.linear(hidden, self.weight, self.bias).float() / self.temperature
        # The smallest finite number gives probability 0, as -inf does, but 0 * -inf would be NaN.
        logits = logits.masked_fill(self.barred, torch.finfo(logits.dtype).min)
        logprobs = logits.log_softmax(-1)
        with torch.no_grad():
            entropy = -(logprobs.exp() * logprobs).sum(-1)
        return logprobs.gather(-1, targets[:, None])[:, 0], entropy


class Policy(nn.Module):
    """Computes log-probs of completions under `model`, for micro-batches in `layout`."""

    def __init__(
        self, model: Any, layout: Layout, sampleable: list[int], temperature: float, chunk_tokens: int
    ) -> None:
        super().__init__()
        text = model.config.get_text_config()
        if getattr(text, "final_logit_softcapping", None):
            raise UnsupportedModel(
                f"{type(model).__name__} caps its logits (final_logit_softcapping): not supported"
            )
        model.set_output_embeddings(
            LogProbHead(model.get_output_embeddings(), sampleable, text.vocab_size, temperature, chunk_tokens)
        )
        if layout == "packed":
            attend_within_groups(model)
        self.model = model
        self.layout = layout
        self._image_token_id = image_token_id(model.config)
        self._accepts = frozenset(inspect.signature(model.base_model.forward).parameters)

    def forward(self, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """Return log-probs and entropies of all completion tokens, float32 [N] each, in the order of
        targets."""
        rows = batch.rows
        inputs: dict[str, Any] = {
            "input_ids": rows.input_ids,
            "attention_mask": rows.attention_mask,
            "use_cache": False,
            **batch.images,
        }
        base = self.model.base_model
        if "mm_token_type_ids" in self._accepts:
            inputs["mm_token_type_ids"] = (rows.input_ids == self._image_token_id).int()
        if rows.positions is not None:
            inputs["position_ids"] = rows.positions
            inputs["group_spans"] = rows.spans
            if hasattr(base, "get_rope_index"):
                inline, _ = base.get_rope_index(
                    rows.input_ids, inputs["mm_token_type_ids"], image_grid_thw=inputs["image_grid_thw"]
                )
                inputs["position_ids"] = follow_prompt(inline, rows.positions, rows.spans)
        if batch.image_of_slot is not None:
            slots = batch.image_of_slot.tolist()
            features = base.get_image_features(**batch.images, return_dict=True)
            del inputs["pixel_values"]
            inputs["mm_encoder_outputs"] = {"image": _take(features, slots)}
            if "image_grid_thw" in inputs:
                inputs["image_grid_thw"] = inputs["image_grid_thw"][slots]
        hidden = base(**inputs).last_hidden_state.flatten(0, 1)
        return self.model.get_output_embeddings()(hidden[rows.predictors], rows.targets)


def choose_layout(model: Any, config: LearnerConfig) -> Layout:
    """Return the cheapest layout that `model` and `config.packing` allow.

    Raises:
        UnsupportedModel: if `config.packing` is `group` but the model or its attention does not support it.
    """
    if config.packing == "none":
        return "unpacked"
    obstacle = obstacle_to_packing(model, config)
    if obstacle is None:
        return "packed"
    if config.packing == "group":
        raise UnsupportedModel(f"learner.packing is 'group', but {obstacle}; set it to 'auto'")
    once = "mm_encoder_outputs" in inspect.signature(model.base_model.forward).parameters
    return "vision_once" if once else "unpacked"


def obstacle_to_packing(model: Any, config: LearnerConfig) -> str | None:
    """Return the reason why groups cannot be packed for `model`; None if they can."""
    layers = set(getattr(model.config.get_text_config(), "layer_types", None) or [])
    if "linear_attention" in layers:
        return "some text layers have linear attention, whose state would pass from one answer to the next"
    if layers - {"full_attention"}:
        return "some text layers attend to a sliding window"
    family = model.config.model_type
    if family not in _PACKABLE_FAMILIES:
        return f"packing has not been shown to be exact for models of type '{family}'"
    if config.attention != "sdpa":
        return f"packed groups attend to one another by SDPA, and learner.attention is '{config.attention}'"
    return None


def image_token_id(model_config: Any) -> int:
    """Return the id of the placeholder token that an image feature replaces."""
    for name in ("image_token_id", "image_token_index"):
        if isinstance(getattr(model_config, name, None), int):
            return int(getattr(model_config, name))
    raise UnsupportedModel(f"the configuration of '{model_config.model_type}' names no image_token_id")


def prepare_model(model: Any, config: LearnerConfig) -> None:
    """Prepare `model` for training: turn off its dropout; set up gradient checkpointing, a frozen vision
    tower and adapters according to `config`."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            # The engine samples without dropout, so the trained policy must have none either.
            module.attention_dropout = 0.0
    if not config.train_vision:
        tower = model.get_encoder(modality="image")
        if tower is model:
            raise UnsupportedModel(
                f"learner.train_vision is off, but {type(model).__name__} names no vision tower to freeze"
            )
        tower.requires_grad_(False)
    if config.lora is not None:
        add_adapters(model, config, config.lora)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()


def _take(features: Any, slots: list[int]) -> Any:
    """Index image features so that entry i holds those of image slots[i]."""
    features.pooler_output = _take_images(features.pooler_output, slots)
    if getattr(features, "deepstack_features", None) is not None:
        features.deepstack_features = [_take_images(level, slots) for level in features.deepstack_features]
    return features


def _take_images(images: Any, slots: list[int]) -> Any:
    return images[slots] if isinstance(images, Tensor) else [images[i] for i in slots]
