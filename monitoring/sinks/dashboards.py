"""All dashboards of a run that are switched on, told the same things."""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cluster.config import RunConfig
from data.config import DataConfig
from data.frames import VideoError
from monitoring.frame_sheets import FrameReader, recorded_request
from monitoring.run_dir import RunDirectory
from monitoring.sinks.writer import ShownGroup, Writer, chosen, distributions

LARGEST_PX = 1600
"""Longer side of a picture of frames; what is larger is shrunk."""


class Dashboards:
    """The writers of a run, and the decoder behind the frames they show."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._writers: list[Writer] = []
        self._frames: FrameReader | None = None

    def begin(self, attempt: int, version: int) -> None:
        """Open everything for an attempt that goes on from `version`: what was told of later ones is void."""
        self._close_writers()
        self._writers = list(_writers(self._config, attempt, version))

    def update(self, version: int, values: Mapping[str, float], records: Sequence[Mapping[str, Any]]) -> None:
        """Show the update that made `version`: its metrics and, by its lines in groups.jsonl, the rest."""
        self.scalars(version, values)
        every = self._config.metrics.groups_every_updates
        shown = self._shown(records) if every and (version - 1) % every == 0 else []
        for writer in self._writers:
            writer.distributions(version, distributions(records))
            if shown:
                writer.groups(version, shown)

    def scalars(self, version: int, values: Mapping[str, float]) -> None:
        for writer in self._writers:
            writer.scalars(version, values)

    def close(self) -> None:
        self._close_writers()
        if self._frames is not None:
            self._frames.close()
            self._frames = None

    def _close_writers(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers = []

    def _shown(self, records: Sequence[Mapping[str, Any]]) -> list[ShownGroup]:
        return [
            ShownGroup(place, record, self._picture(record["clean"]["ref"], self._config.data))
            for place, record in chosen(records).items()
        ]

    def _picture(self, ref: Mapping[str, Any], data: DataConfig) -> np.ndarray | str:
        """The frames side by side, uint8 [height, width, 3], or why there are none."""
        from PIL import Image

        self._frames = self._frames or FrameReader()
        try:
            sheet = self._frames.sheet(recorded_request(ref, data))
        except VideoError as error:
            return str(error)
        picture = Image.open(io.BytesIO(sheet.png))
        picture.thumbnail((LARGEST_PX, LARGEST_PX))
        return np.asarray(picture)


def _writers(config: RunConfig, attempt: int, version: int) -> Iterator[Writer]:
    """Whatever a writer needs is imported only where it is switched on."""
    assert config.run_dir is not None
    if config.metrics.tensorboard:
        from monitoring.sinks.tensorboard import TensorBoardWriter

        yield TensorBoardWriter(RunDirectory(config.run_dir).tensorboard, version)
    if config.metrics.wandb != "off":
        from monitoring.sinks.wandb import WandbWriter

        yield WandbWriter(config, attempt)
