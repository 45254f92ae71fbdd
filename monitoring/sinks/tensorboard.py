"""TensorBoard's events in the run directory."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from monitoring.sinks.writer import ANSWER_COLUMNS, ShownGroup, answers


class TensorBoardWriter:
    """A Writer of TensorBoard's events. A group is an image, and a text under the same name."""

    def __init__(self, folder: Path, version: int) -> None:
        """`version`: where the attempt goes on. TensorBoard forgets what it was told of later ones."""
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
            self._events.add_text(name, markdown(group), step)

    def close(self) -> None:
        self._events.close()


def markdown(group: ShownGroup) -> str:
    """Which video, and a table of its answers."""
    record = group.record
    lines = [
        f"**{html.escape(record['video_id'])}**, MOS {record['mos']:g}, sampled by {record['worker']}, "
        f"{record['status']} {record['reason']}".rstrip(),
        "",
        f"| {' | '.join(ANSWER_COLUMNS)} |",
        "| --- " * len(ANSWER_COLUMNS) + "|",
        *(f"| {' | '.join(_cell(value) for value in row)} |" for row in answers(record)),
    ]
    if isinstance(group.frames, str):
        lines[1:1] = ["", f"Frames cannot be shown: {html.escape(group.frames)}"]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    """A value inside a table: tags are text, and neither a line's end nor a bar ends the cell."""
    match value:
        case None:
            return "–"
        case float():
            return f"{value:.3g}"
        case list():
            return ", ".join(map(str, value))
        case _:
            return html.escape(" ".join(str(value).split()), quote=False).replace("|", "\\|")
