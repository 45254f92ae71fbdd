"""Checks a checkpoint's processor and length limits against the settings, without loading its weights.

Engines load their processor with this module. Run as a program, it checks one model per line of input
(runtime/killable.py). A run does that before any actor starts, so its own process need not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from data.errors import PermanentError
from data.frame_tokens import FrameTokens
from data.prompt import prompt_text, sampleable_token_ids
from runtime.killable import serve


class ModelRefused(PermanentError, ValueError):
    """A checkpoint cannot be used as configured. The message names the setting and the fix."""


@dataclass(frozen=True, slots=True)
class CheckedModel:
    """A checkpoint's processor and configuration.

    `config` is the configuration of the whole model. `image_options` are the arguments of `processor` for the
    frame settings. `masked_token_ids` must never be sampled; they include padding rows of the vocabulary.
    """

    config: Any
    processor: Any
    image_options: dict[str, Any]
    masked_token_ids: list[int]


def load_checked(
    model_path: str, trust_remote_code: bool, frame_tokens: FrameTokens, max_model_tokens: int
) -> CheckedModel:
    """Load a checkpoint's processor and configuration.

    Raises:
        ModelRefused, FrameTokensError: if the settings do not fit the checkpoint.
        OSError: if a file is missing or cannot be read, or the hub does not answer.
    """
    from transformers import AutoConfig, AutoProcessor

    try:
        config = AutoConfig.from_pretrained(model_path, trust_remote_code=trust_remote_code)
        processor = AutoProcessor.from_pretrained(model_path, trust_remote_code=trust_remote_code)
    except OSError:
        raise
    except Exception as error:  # remote code and transformers raise any type
        raise ModelRefused(
            f"model.path: transformers cannot load {model_path}: {type(error).__name__}: {error}"
        ) from error
    text = config.get_text_config()
    longest = getattr(text, "max_position_embeddings", None)
    if longest is not None and max_model_tokens > longest:
        raise ModelRefused(
            f"rollout.max_model_tokens is {max_model_tokens}, but {model_path} supports {longest} "
            f"tokens: lower it"
        )
    options = frame_tokens.image_options(processor)
    try:
        prompt_text(processor, n_frames=1)
    except Exception as error:  # a template may raise any type
        raise ModelRefused(f"model.path: {model_path}: its chat template fails: {error}") from error
    allowed = set(sampleable_token_ids(processor))
    return CheckedModel(config, processor, options, [i for i in range(text.vocab_size) if i not in allowed])


_NOT_TRAINED = {
    "gemma3": "transformers 5.19 and vLLM 0.32 name the weights of its vision tower differently, so that new "
    "weights would not reach the engines",
}


def require_trainable(config: Any) -> None:
    """Raise ModelRefused for models that are known not to be trainable."""
    reason = _NOT_TRAINED.get(config.model_type)
    if getattr(config.get_text_config(), "final_logit_softcapping", None):
        reason = "it caps its logits (final_logit_softcapping), and the learner's log-probs would not"
    if reason:
        raise ModelRefused(
            f"model.path: models of type '{config.model_type}' cannot be trained: {reason}; docs/models.md "
            f"lists those that can"
        )


def _check(job: dict[str, Any]) -> None:
    checked = load_checked(
        job["model_path"],
        job["trust_remote_code"],
        FrameTokens(**job["frame_tokens"]),
        job["max_model_tokens"],
    )
    require_trainable(checked.config)


if __name__ == "__main__":
    serve(_check)
