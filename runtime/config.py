"""How a command reaches Ray. Importable without ray."""

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
    prefetch_videos: int = Field(32, ge=1)
    """Videos decoded ahead of sampling."""
    shutdown_timeout_s: float = Field(60.0, gt=0)
    """Deadline of ending the actors of a run."""
