"""Write a run as TensorBoard events into its directory."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from monitoring.sinks.writer import ShownGroup, answer_columns, answers


class TensorBoardWriter:
    """A Writer of TensorBoard events. A group becomes an image and a text with the same name."""

    def __init__(self, folder: Path, version: int, rewards: Sequence[str]) -> None:
        """`version` is the version that the attempt starts from; later steps are discarded. `rewards` are the
        names of the run's rewards."""
        self._rewards = rewards
        self._events = SummaryWriter(str(folder), purge_step=version + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._events.add_scalar(name, value, step)
        self._events.flush()

    def distributions(self, step: int, values: Mapping[str, Sequence[float]]) -> None:
        for name, sample in values.items():
            self._events.add_histogram(name, np.asarray(sample), step)

    def groups(self, step: int, groups: Sequence[ShownGroup]) -> None:
        for group in groups:
            name = f"groups/{group.place}"
            if isinstance(group.frames, np.ndarray):
                self._events.add_image(name, group.frames, step, dataformats="HWC")
            self._events.add_text(name, markdown(group, self._rewards), step)

    def close(self) -> None:
        self._events.close()


def markdown(group: ShownGroup, rewards: Sequence[str]) -> str:
    """Format a group as Markdown: its video, and a table of its answers."""
    record, columns = group.record, answer_columns(rewards)
    lines = [
        f"**{html.escape(record['video_id'])}**, MOS {record['mos']:g}, sampled by {record['worker']}, "
        f"{record['status']} {record['reason']}".rstrip(),
        "",
        f"| {' | '.join(columns)} |",
        "| --- " * len(columns) + "|",
        *(f"| {' | '.join(_cell(value) for value in row)} |" for row in answers(record, rewards)),
    ]
    if isinstance(group.frames, str):
        lines[1:1] = ["", f"Frames cannot be shown: {html.escape(group.frames)}"]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    """Format a value as a table cell. Escapes HTML tags and vertical bars, and removes line breaks."""
    match value:
        case None:
            return "–"
        case float():
            return f"{value:.3g}"
        case list():
            return ", ".join(map(str, value))
        case _:
            return html.escape(" ".join(str(value).split()), quote=False).replace("|", "\\|")
