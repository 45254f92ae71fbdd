"""Write to TensorBoard and Weights & Biases from a separate process, so that updates do not wait for disk or
network."""

import asyncio
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from data.config import DataConfig
from data.video_file import VideoError
from monitoring.config import MetricsConfig
from monitoring.frame_sheets import FrameReader, recorded_request
from monitoring.run_dir import RunDirectory
from monitoring.sinks.writer import ShownGroup, Writer, chosen, distributions
from runtime.calls import DeadlineError, within

CALL_TIMEOUT_S = 300.0
"""Deadline of one call. Opening a run in Weights & Biases can take 90 s."""
MOST_WAITING = 1000

LARGEST_PX = 1600
"""Longest side of a picture of frames; larger pictures are scaled down."""


class Dashboards:
    """An actor that holds the writers of a run, and the decoder for the frames they show."""

    def __init__(
        self,
        metrics: MetricsConfig,
        data: DataConfig,
        run_dir: Path,
        config: Mapping[str, Any],
        rewards: Sequence[str],
    ) -> None:
        """`data` says how videos are decoded. `config` is the run's whole configuration as JSON values, which
        is recorded. `rewards` are the names of the run's rewards."""
        self._rewards = rewards
        self._metrics = metrics
        self._data = data
        self._run_dir = run_dir
        self._config = config
        self._writers: list[Writer] = []
        self._frames: FrameReader | None = None

    def begin(self, attempt: int, version: int) -> None:
        """Open the writers for an attempt that starts from `version`. They discard later steps."""
        self._close_writers()
        self._writers = list(self._open_writers(attempt, version))

    def update(self, version: int, values: Mapping[str, float], records: Sequence[Mapping[str, Any]]) -> None:
        """Write the update that produced `version`: its metrics, its distributions and some of its videos.

        `records` are the update's lines in groups.jsonl.
        """
        self.scalars(version, values)
        every = self._metrics.groups_every_updates
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

    def _open_writers(self, attempt: int, version: int) -> Iterator[Writer]:
        """Open the configured writers. The packages of a writer are imported only if it is enabled."""
        if self._metrics.tensorboard:
            from monitoring.sinks.tensorboard import TensorBoardWriter

            yield TensorBoardWriter(RunDirectory(self._run_dir).tensorboard, version, self._rewards)
        if self._metrics.wandb != "off":
            from monitoring.sinks.wandb import WandbWriter

            yield WandbWriter(self._metrics, self._run_dir, self._config, attempt, self._rewards)

    def _close_writers(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers = []

    def _shown(self, records: Sequence[Mapping[str, Any]]) -> list[ShownGroup]:
        return [
            ShownGroup(place, record, self._picture(record["clean"]["ref"]))
            for place, record in chosen(records).items()
        ]

    def _picture(self, ref: Mapping[str, Any]) -> np.ndarray | str:
        """The frames side by side, uint8 [height, width, 3], or the reason why they cannot be decoded."""
        from PIL import Image

        self._frames = self._frames or FrameReader()
        try:
            sheet = self._frames.sheet(recorded_request(ref, self._data))
        except VideoError as error:
            return str(error)
        picture = Image.open(io.BytesIO(sheet.png))
        picture.thumbnail((LARGEST_PX, LARGEST_PX))
        return np.asarray(picture)


def start_actor(
    metrics: MetricsConfig,
    data: DataConfig,
    run_dir: Path,
    config: Mapping[str, Any],
    rewards: Sequence[str],
) -> Any:
    """Start the actor on the caller's node, so that autoscaling does not remove it."""
    actor: Any = ray.remote(Dashboards)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return actor.options(num_cpus=0, scheduling_strategy=here).remote(metrics, data, run_dir, config, rewards)


class DashboardFeed:
    """Queues calls to the actor and makes them one at a time. Only `close` waits for them.

    A failing dashboard does not end a run. After the first call that fails, times out or finds the queue
    full, no further call is made, and `on_lost` receives the reason. The run directory has all records.
    """

    def __init__(self, actor: Any, on_lost: Callable[[str], None], timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._actor = actor
        self._on_lost = on_lost
        self._timeout_s = timeout_s
        self._calls: asyncio.Queue[tuple[str, tuple[Any, ...]]] = asyncio.Queue(MOST_WAITING)
        self._lost = False
        self._feeding = asyncio.create_task(self._feed())

    def tell(self, call: str, *arguments: Any) -> None:
        """Queue the method `call` of the actor behind the earlier calls."""
        if self._lost:
            return
        try:
            self._calls.put_nowait((call, arguments))
        except asyncio.QueueFull:
            self._lose(f"{MOST_WAITING} calls wait for the dashboards")

    async def close(self, timeout_s: float) -> None:
        """Let the actor finish the queued calls for at most `timeout_s`, then end it."""
        self.tell("close")
        try:
            await within(self._calls.join(), timeout_s, "dashboards.close")
        except DeadlineError as error:
            self._lose(str(error))
        self._feeding.cancel()
        await asyncio.gather(self._feeding, return_exceptions=True)
        ray.kill(self._actor)

    async def _feed(self) -> None:
        while True:
            call, arguments = await self._calls.get()
            try:
                if not self._lost:
                    answer = getattr(self._actor, call).remote(*arguments)
                    await within(answer, self._timeout_s, f"dashboards.{call}")
            except (ray.exceptions.RayError, DeadlineError) as error:
                cause = getattr(error, "cause", None) or error
                self._lose(f"{type(cause).__name__}: {cause}")
            finally:
                self._calls.task_done()

    def _lose(self, reason: str) -> None:
        if not self._lost:
            self._lost = True
            self._on_lost(reason)
