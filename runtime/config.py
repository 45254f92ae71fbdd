"""Settings of the connection to Ray. Importable without ray."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class ClusterConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    address: str | None = None
    """Address of a running Ray cluster. Default: the cluster in RAY_ADDRESS, or that of a submitted job;
    otherwise, Ray is started on this machine for the run, and stopped with it."""
    object_store_mb: int | None = Field(None, ge=80)
    """Size of Ray's object store in MiB, if the run starts Ray itself."""
    placement_timeout_s: float = Field(300.0, gt=0)
    """Deadline for getting the resources of an actor. On an autoscaling cluster, it includes the start of
    nodes."""
    autoscaling: bool = False
    """The cluster starts nodes on demand: do not treat missing resources at the start as an error."""
    prefetch_videos: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Number of videos decoded ahead of sampling. `auto`: the videos of one update, but at least 32."""
    shutdown_timeout_s: float = Field(60.0, gt=0)
    """Deadline for ending the actors of a run."""
