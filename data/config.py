"""Settings of a run's videos. Importable without torch, ray or decord."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator

from data.fetch_settings import FetchSettings
from data.frame_tokens import FrameTokenSettings
from data.urls import is_url, location
from runtime.project import moved


class DataConfig(FrameTokenSettings, FetchSettings):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    manifest: Path = Path("demo/built/manifest.csv")
    """Manifest of labelled videos (.csv, .jsonl or .parquet), with one row per video."""
    root: Path | str | None = None
    """Folder, or URL of a folder (s3://bucket/folder), that video paths are relative to and must stay below.
    Default: the manifest's folder."""
    train_split: str = "train"
    """Value of the `split` column to train on."""
    frames_per_video: int = Field(6, ge=1, le=256)
    """Number of frames per video: the middle frame of each of this many equal segments."""
    square_pixels: bool = True
    """Stretch frames with non-square pixels to square ones. If false, frames are used as they are stored."""
    decoder: Literal["auto", "decord", "pyav"] = "auto"
    """Video decoder. `auto` is PyAV, which reads whatever FFmpeg reads. `decord` refuses files that it would
    read wrongly."""
    decode_timeout_s: float = Field(60.0, gt=0)
    """Deadline for decoding one video. If it is missed, the task is killed and the video counts as failed."""
    decode_tasks: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Number of videos decoded at once. `auto`: 4 per rollout replica, or fewer if the cluster has too few
    free CPUs."""
    decode_cpus: float = Field(0.25, gt=0)
    """Number of CPUs that Ray reserves per decode task."""

    @field_validator("manifest", mode="before")
    @classmethod
    def _local(cls, value: Any) -> Any:
        if is_url(value):
            raise ValueError("is a URL: copy the manifest to this machine; the paths in it may be URLs")
        return value

    @field_validator("root", mode="before")
    @classmethod
    def _place(cls, value: Any) -> Any:
        return location(value) if isinstance(value, str) else value

    @field_validator("manifest", "root")
    @classmethod
    def _moved(cls, path: Path | str | None) -> Path | str | None:
        return Path(moved(str(path))) if isinstance(path, Path) else path
