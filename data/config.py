"""Settings of the videos of a run. Importable without torch, ray or decord."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, field_validator

from data.frame_tokens import FrameTokenSettings
from runtime.project import moved


class DataConfig(FrameTokenSettings):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    manifest: Path = Path("demo/built/manifest.csv")
    """Manifest of labelled videos (.csv, .jsonl or .parquet), one row a video."""
    root: Path | None = None
    """Folder that relative video paths start from and that no path may leave; default: the manifest's."""
    train_split: str = "train"
    """Value of the `split` column to train on."""
    frames_per_video: int = Field(6, ge=1, le=256)
    """Frames that the model sees: the middle frame of each of this many equal segments."""
    square_pixels: bool = True
    """Stretch frames with non-square pixels to square ones; false shows them as they are stored."""
    decoder: Literal["auto", "decord", "pyav"] = "auto"
    """Decoder of the files. auto is PyAV, which reads all that FFmpeg reads; decord refuses files that it
    would read wrong."""
    decode_timeout_s: float = Field(60.0, gt=0)
    """Deadline of decoding one video; past it the task is killed and the video counts as failed."""
    decode_tasks: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Videos decoded at once; `auto`: 4 for each rollout replica, or as many as the cluster's CPUs leave."""
    decode_cpus: float = Field(0.25, gt=0)
    """CPUs that Ray reserves for one decode task."""

    @field_validator("manifest", "root")
    @classmethod
    def _moved(cls, path: Path | None) -> Path | None:
        return path and Path(moved(str(path)))
