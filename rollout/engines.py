"""Creates the engine that a configuration selects."""

import socket

import vllm

from rollout.engine import Engine
from rollout.engine_arguments import EngineSettings
from rollout.engine_async import AsyncEngine
from rollout.engine_in_process import InProcessEngine
from rollout.environment import uses_async_engine
from rollout.errors import EngineRefused
from runtime.software import Device, installed_software, software_problem

SUPPORTED_VLLM = ("0.32.",)


def make_engine(settings: EngineSettings) -> Engine:
    """Create the engine that the configuration selects, without starting it.

    Raises EngineRefused if this machine's vLLM cannot run it.
    """
    device: Device = "cuda" if settings.rollout.gpus_per_replica > 0 else "cpu"
    if problem := software_problem(installed_software(), device):
        raise EngineRefused(f"node {socket.gethostname()}: {problem}")
    if not vllm.__version__.startswith(SUPPORTED_VLLM):
        raise EngineRefused(
            f"vLLM {vllm.__version__} is installed; this was tested with {', '.join(SUPPORTED_VLLM)}x: "
            f"`make setup` installs that"
        )
    return AsyncEngine(settings) if uses_async_engine(settings.rollout) else InProcessEngine(settings)
