"""Errors of sampling. Importable without vllm, because they are pickled between processes."""

from data.errors import PermanentError


class EngineDead(RuntimeError):
    """The engine has failed for good. Its process must be replaced."""


class EngineRefused(PermanentError):
    """No engine can start with this installation or configuration. The message says what to change."""


class WeightsRefused(PermanentError):
    """The learner's weights lack some of the engine's parameters, or its adapter names unknown layers. The
    message lists the missing or unknown names."""


class RolloutFailed(RuntimeError):
    """One video's groups could not be sampled. Other videos are not affected."""


class FleetExhausted(RuntimeError):
    """No worker is left, or too many had to be replaced. The run ends."""
