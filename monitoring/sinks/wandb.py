"""A run in Weights & Biases, sent as it goes on or kept in the run directory for `wandb sync`."""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cluster.config import ConfigError, RunConfig
from monitoring.sinks.writer import ANSWER_COLUMNS, ShownGroup, answers

STEP = "version"
_BINS = 64
_VIDEO_COLUMNS = (STEP, "place", "video_id", "mos", "worker", "status")


class WandbWriter:
    """A Writer to Weights & Biases. A group is an image, and rows of the table `groups/answers`.

    Every attempt is a run of its own, for a run there cannot go back to an earlier step; they share a group,
    the name of the run directory. The configuration is sent, and neither code, nor output, nor git's state.
    """

    def __init__(self, config: RunConfig, attempt: int) -> None:
        import wandb

        assert config.run_dir is not None
        assert config.metrics.wandb != "off"
        group = config.run_dir.name
        self._wandb = wandb
        self._run = wandb.init(
            project=config.metrics.wandb_project,
            group=group,
            name=group if attempt == 0 else f"{group}, attempt {attempt + 1}",
            tags=[config.name],
            dir=str(config.run_dir),
            mode=config.metrics.wandb,
            config=config.model_dump(mode="json"),
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
            for row in answers(group.record)
        ]
        images = {
            f"groups/{group.place}": self._wandb.Image(group.frames, caption=_caption(group))
            for group in groups
            if isinstance(group.frames, np.ndarray)
        }
        table = self._wandb.Table(columns=[*_VIDEO_COLUMNS, *ANSWER_COLUMNS], data=rows)
        self._run.log({STEP: step, "groups/answers": table, **images})

    def close(self) -> None:
        self._run.finish()


def check_wandb(config: RunConfig) -> None:
    """Raises ConfigError where Weights & Biases is asked for and cannot be had."""
    mode = config.metrics.wandb
    if mode == "off":
        return
    if importlib.util.find_spec("wandb") is None:
        raise ConfigError(
            f"metrics.wandb is '{mode}', and the package wandb is not installed: "
            f"pip install 'wandb>=0.31,<1', or set metrics.wandb to 'off'"
        )
    if mode == "online" and not _has_key():
        raise ConfigError(
            "metrics.wandb is 'online', and there is no API key: set WANDB_API_KEY, log in with "
            "`wandb login`, or set metrics.wandb to 'offline'"
        )


def _has_key() -> bool:
    """Whether a key is set or stored; asks nobody."""
    import wandb

    return wandb.login(prompt=False, verify=False)


def _caption(group: ShownGroup) -> str:
    """The video, and its best rewarded answer."""
    best: tuple[Any, ...] = answers(group.record)[0]
    return f"{group.record['video_id']}, MOS {group.record['mos']:g}: {best[-1]}"
