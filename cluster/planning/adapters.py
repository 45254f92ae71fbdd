"""Decides, before anything starts, whether a LoRA run's engines get adapters or merged weights. Pure."""

from cluster.config import RunConfig
from cluster.planning.architecture import Architecture
from learner.config import ALL_LINEAR, LANGUAGE_MODEL
from rollout.adapters import FAMILIES, AdapterServing


def why_merged(config: RunConfig, model: Architecture | None) -> str | None:
    """Return the reason why engines get merged weights; None if they get adapters.

    Args:
        config: configuration of a LoRA run.
        model: None if the model's architecture is not known here.
    """
    lora = config.learner.lora
    assert lora is not None, "only a LoRA run has adapters"
    if lora.send == "merged":
        return "learner.lora.send is 'merged'"
    if model is None:
        return f"the family of '{config.model.path}' is not known here: give a folder with its config.json"
    if model.family not in FAMILIES:
        return f"adapters of the family '{model.family}' have not been shown to be served as they are trained"
    names = set(lora.target_modules)
    if names == {LANGUAGE_MODEL}:
        return None
    outside = {layer.name for layer in model.vision.projector_linears}
    if config.learner.train_vision:
        outside |= {layer.name for layer in model.vision.linears}
    if names == {ALL_LINEAR} or names & outside:
        return (
            "learner.lora.target_modules has layers of vision tower or projector, of which engines serve no "
            f"adapters; ['{LANGUAGE_MODEL}'] leaves them out"
        )
    return None


def adapter_serving(config: RunConfig, model: Architecture | None) -> AdapterServing | None:
    """Return the settings for serving a run's adapters; None if engines get the weights of the whole model.

    A version more than `max_staleness` behind the next one has no running request. So one slot per version in
    between is enough for a slot to be free at every update.
    """
    lora = config.learner.lora
    if lora is None or why_merged(config, model) is not None:
        return None
    return AdapterServing(lora.rank, lora.alpha, config.schedule.max_staleness + 1)


def what_engines_get(config: RunConfig, model: Architecture | None) -> str | None:
    """Return a line that says what the engines of a LoRA run get; None for any other run."""
    if config.learner.lora is None:
        return None
    if (reason := why_merged(config, model)) is not None:
        return f"Engines get merged weights: {reason}"
    return "Engines get adapters, and keep the base model"
