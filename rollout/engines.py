"""The engine that a configuration asks for."""

import vllm

from rollout.engine import Engine, EngineSettings
from rollout.engine_async import AsyncEngine
from rollout.engine_in_process import InProcessEngine
from rollout.environment import uses_async_engine
from rollout.errors import EngineRefused

SUPPORTED_VLLM = ("0.32.",)


def make_engine(settings: EngineSettings) -> Engine:
    """The engine that the configuration asks for, not started yet."""
    if not vllm.__version__.startswith(SUPPORTED_VLLM):
        raise EngineRefused(
            f"vLLM {vllm.__version__} is installed; this was tested with {', '.join(SUPPORTED_VLLM)}x: "
            f"`make setup` installs that"
        )
    return AsyncEngine(settings) if uses_async_engine(settings.rollout) else InProcessEngine(settings)
