"""Settings for fetching videos by URL. Importable without fsspec."""

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from data.urls import is_url

_TRIES = 4
_FIRST_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Fetching:
    """Resolved settings for fetching and caching files; `FetchSettings` documents them."""

    cache_dir: str | None = None
    cache_gb: float = 50.0
    timeout_s: float = 120.0
    tries: int = _TRIES

    @property
    def folder(self) -> Path:
        """The cache's folder on this machine."""
        if self.cache_dir is not None:
            return Path(self.cache_dir)
        return Path(tempfile.gettempdir()) / f"vqathinker-videos-{os.getuid()}"

    @property
    def limit_bytes(self) -> int:
        return int(self.cache_gb * 1e9)

    def pause_s(self, tried: int) -> float:
        """Return the longest pause after `tried` tries."""
        return _FIRST_PAUSE_S * 2.0**tried

    @property
    def budget_s(self) -> float:
        """Deadline for one file in seconds: all tries, the pauses between them, and waiting for other
        processes that fetch it."""
        return self.tries * self.timeout_s + sum(map(self.pause_s, range(1, self.tries)))

    def wait_s(self, paths: Iterable[str | None]) -> float:
        """Return how many seconds longer than local files these paths may take in total."""
        return self.budget_s * sum(map(is_url, paths))


DEFAULT_FETCHING = Fetching()


class FetchSettings(BaseModel):
    """Settings for fetching videos that are named by URL."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    cache_gb: float = Field(50.0, gt=0)
    """Maximum size of the cache of fetched videos on each node, in gigabytes. The least recently used videos
    are removed first."""
    cache_dir: Path | None = None
    """Folder of the cache, on a local disk of the node. Default: vqathinker-videos-UID in the node's
    temporary folder."""
    fetch_timeout_s: float = Field(120.0, gt=0)
    """Deadline for one try to fetch one video. After four tries, with pauses in between, the video has
    failed."""

    @property
    def fetching(self) -> Fetching:
        folder = None if self.cache_dir is None else str(self.cache_dir.expanduser().absolute())
        return Fetching(folder, self.cache_gb, self.fetch_timeout_s)
