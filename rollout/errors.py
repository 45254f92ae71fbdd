"""What can go wrong while sampling. Importable without vllm: these travel between processes."""

from data.errors import PermanentError


class EngineDead(RuntimeError):
    """The engine has failed for good; its process has to be replaced."""


class EngineRefused(PermanentError):
    """No engine starts with this installation or configuration; says what to change."""


class WeightsRefused(PermanentError):
    """The learner's weights are not all of the engine's, or its adapter is not of the engine's layers; names
    those that are missing or unknown."""


class RolloutFailed(RuntimeError):
    """One video's groups could not be sampled; others may be."""


class FleetExhausted(RuntimeError):
    """No worker is left to sample with, or too many had to be replaced: the run ends."""
