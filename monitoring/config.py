"""Where a run's metrics go. Importable without torch, ray or wandb."""

import importlib.util
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from runtime.errors import ConfigError


class MetricsConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    tensorboard: bool = True
    """Write TensorBoard events into the run directory."""
    wandb: Literal["off", "offline", "online"] = "off"
    """Weights & Biases: `offline` writes into the run directory, for `wandb sync`; `online` sends during
    the run. Needs the extra `wandb`, and `online` an API key (WANDB_API_KEY, or `wandb login`)."""
    wandb_project: str = Field("vqathinker-ray", min_length=1)
    """Project in Weights & Biases that the run is filed under."""
    groups_every_updates: int = Field(25, ge=0)
    """Updates between the times that TensorBoard and Weights & Biases get three videos with their frames and
    all answers; 0 leaves them out."""
    trace: bool = False
    """Write into trace.json of the run directory when each actor did what, for ui.perfetto.dev."""
    prometheus: bool = True
    """Hand the metrics to Ray's agent, where Prometheus finds them; without an agent they are dropped."""


def check_wandb(metrics: MetricsConfig) -> None:
    """Raises ConfigError if Weights & Biases is requested and not available."""
    mode = metrics.wandb
    if mode == "off":
        return
    if importlib.util.find_spec("wandb") is None:
        raise ConfigError(
            f"metrics.wandb is '{mode}', and the package wandb is not installed: "
            f"pip install 'wandb>=0.31,<1', or set metrics.wandb to 'off'"
        )
    if mode == "online" and not _has_key():
        raise ConfigError(
            "metrics.wandb is 'online', and there is no API key: set WANDB_API_KEY, log in with "
            "`wandb login`, or set metrics.wandb to 'offline'"
        )


def _has_key() -> bool:
    """Whether a key is set or stored. Prompts for nothing and contacts no server."""
    import wandb

    return wandb.login(prompt=False, verify=False)
