"""Log a run to Weights & Biases: online, or into the run directory for a later `wandb sync`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.config import MetricsConfig
from monitoring.sinks.writer import ShownGroup, answer_columns, answers

STEP = "version"
_BINS = 64
_VIDEO_COLUMNS = (STEP, "place", "video_id", "mos", "worker", "status")


class WandbWriter:
    """A Writer to Weights & Biases. A group becomes an image and rows of the table `groups/answers`.

    Each attempt is a separate run, because a W&B run cannot return to an earlier step. The attempts share a
    group, named after the run directory. The configuration is uploaded; code, console output and git state
    are not.
    """

    def __init__(
        self,
        metrics: MetricsConfig,
        run_dir: Path,
        config: Mapping[str, Any],
        attempt: int,
        rewards: Sequence[str],
    ) -> None:
        """`config` is the run's configuration as JSON values. `rewards` are the names of its rewards."""
        import wandb

        self._rewards = rewards
        assert metrics.wandb != "off"
        group = run_dir.name
        self._wandb = wandb
        self._run = wandb.init(
            project=metrics.wandb_project,
            group=group,
            name=group if attempt == 0 else f"{group}, attempt {attempt + 1}",
            tags=[config["name"]],
            dir=str(run_dir),
            mode=metrics.wandb,
            config=dict(config),
            reinit="create_new",
            settings=wandb.Settings(
                console="off", disable_code=True, disable_git=True, silent=True, save_code=False
            ),
        )
        self._run.define_metric(STEP, hidden=True)
        self._run.define_metric("*", step_metric=STEP)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({STEP: step, **values})

    def distributions(self, step: int, values: Mapping[str, Sequence[float]]) -> None:
        histograms = {
            name: self._wandb.Histogram(np_histogram=np.histogram(np.asarray(sample), bins=_BINS))
            for name, sample in values.items()
        }
        self._run.log({STEP: step, **histograms})

    def groups(self, step: int, groups: Sequence[ShownGroup]) -> None:
        rows = [
            [step, group.place, *(group.record[name] for name in _VIDEO_COLUMNS[2:]), *row]
            for group in groups
            for row in answers(group.record, self._rewards)
        ]
        images = {
            f"groups/{group.place}": self._wandb.Image(group.frames, caption=_caption(group, self._rewards))
            for group in groups
            if isinstance(group.frames, np.ndarray)
        }
        table = self._wandb.Table(columns=[*_VIDEO_COLUMNS, *answer_columns(self._rewards)], data=rows)
        self._run.log({STEP: step, "groups/answers": table, **images})

    def close(self) -> None:
        self._run.finish()


def _caption(group: ShownGroup, rewards: Sequence[str]) -> str:
    """Caption of a group's image: the video, and its answer with the highest reward."""
    best: tuple[Any, ...] = answers(group.record, rewards)[0]
    return f"{group.record['video_id']}, MOS {group.record['mos']:g}: {best[-1]}"
