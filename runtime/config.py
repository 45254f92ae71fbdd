"""How a command reaches Ray. Importable without ray."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class ClusterConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    address: str | None = None
    """Address of a running Ray cluster; default: the one this process belongs to (RAY_ADDRESS, a submitted
    job), else a Ray of its own, started and stopped with the run."""
    object_store_mb: int | None = Field(None, ge=80)
    """Size of the object store of a Ray that the run starts itself."""
    placement_timeout_s: float = Field(300.0, gt=0)
    """Deadline of getting the resources for an actor; on an autoscaling cluster also of starting the
    nodes."""
    autoscaling: bool = False
    """The cluster starts nodes on demand, so missing resources at the start are no error."""
    prefetch_videos: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Videos decoded ahead of sampling; `auto`: those of one update, and 32 at least."""
    shutdown_timeout_s: float = Field(60.0, gt=0)
    """Deadline of ending the actors of a run."""
