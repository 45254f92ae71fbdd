"""Settings of the destinations of a run's metrics. Importable without torch, ray or wandb."""

import importlib.util
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from runtime.errors import ConfigError


class MetricsConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    tensorboard: bool = True
    """Write TensorBoard events into the run directory."""
    wandb: Literal["off", "offline", "online"] = "off"
    """Weights & Biases: `offline` writes into the run directory, to be uploaded by `wandb sync`; `online`
    uploads during the run. Both need the extra `wandb`; `online` also needs an API key (WANDB_API_KEY, or
    `wandb login`)."""
    wandb_project: str = Field("vqathinker-ray", min_length=1)
    """Weights & Biases project of the run."""
    groups_every_updates: int = Field(25, ge=0)
    """Every this many updates, send three videos with their frames and all answers to TensorBoard and Weights
    & Biases; 0 sends none."""
    trace: bool = False
    """Write a timeline of all actors to trace.json in the run directory, for ui.perfetto.dev."""
    prometheus: bool = True
    """Export the metrics through Ray's metrics agent, which Prometheus scrapes; without an agent they are
    dropped."""


def check_wandb(metrics: MetricsConfig) -> None:
    """Check that Weights & Biases can be used if it is requested. Raises ConfigError."""
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
    """Whether an API key is set or stored. Does not prompt and contacts no server."""
    import wandb

    return wandb.login(prompt=False, verify=False)
