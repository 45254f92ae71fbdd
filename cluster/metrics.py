"""The one place that records metrics. Names are `area/name`; sinks are JSON lines and TensorBoard."""

import math
import time
from collections.abc import Mapping

from cluster.run_dir import RunDirectory


class Metrics:
    """Writes one record an update to every sink. Values that are not finite are recorded as missing."""

    def __init__(self, run: RunDirectory, attempt: int, version: int, tensorboard: bool) -> None:
        """`version`: where the attempt goes on; TensorBoard forgets what it was told of later ones."""
        self._run = run
        self._attempt = attempt
        self._writer = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(run.tensorboard), purge_step=version)

    def record(self, update: int, values: Mapping[str, float]) -> None:
        """Record the metrics of `update`, the one that makes version update + 1."""
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        header = {"attempt": self._attempt, "update": update, "time": time.time()}
        self._run.append("metrics", header | dict(sorted(finite.items())))
        self.scalars(update, finite)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Send values to the live sinks alone; their record is kept elsewhere."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
