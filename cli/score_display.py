"""Print scores in the terminal: progress, single results, timelines, and notes about files."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.terminal import facts_table, progress_bar
from evaluation.inputs import FoundVideos
from evaluation.models import Checkpoint
from evaluation.settings import ScoringSettings
from rewards.parser import HIGHEST, LOWEST

if TYPE_CHECKING:
    from evaluation.answers import ScoredVideo

LISTED_FAILURES = 20
_PLAIN_STEPS = 10


class ScoreProgress:
    """Displays progress as a bar, or as a line at each tenth if output is not a terminal."""

    def __init__(self, console: Console, total: int, done: int) -> None:
        self._console, self._total, self._done, self._failed = console, total, done, 0
        self._progress = progress_bar(console)
        self._task = self._progress.add_task("starting the engine", total=total, completed=done)

    def __enter__(self) -> "ScoreProgress":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self, failed: bool) -> None:
        tenth = self._done * _PLAIN_STEPS // self._total
        self._done += 1
        self._failed += failed
        text = f"scoring, {self._failed} failed" if self._failed else "scoring"
        self._progress.update(self._task, completed=self._done, description=text)
        if not self._console.is_terminal and self._done * _PLAIN_STEPS // self._total > tenth:
            self._console.print(f"{text}: {self._done} of {self._total}", highlight=False)


def print_origin(
    console: Console, checkpoint: Checkpoint, settings: ScoringSettings, found: FoundVideos
) -> None:
    """Print the model, how a video is presented to it, and the number of videos."""
    own = all(getattr(settings, name) == value for name, value in checkpoint.view)
    console.print(
        f"Model {checkpoint.name}: {settings.frames_per_video} frames of at most {settings.max_frame_px} px, "
        f"answers of at most {settings.max_completion_tokens} tokens "
        f"({checkpoint.view_source}{'' if own else ', and flags'})",
        highlight=False, markup=False,
    )  # fmt: skip
    notes = [f"{len(found.videos)} video{'s' if len(found.videos) != 1 else ''}"]
    if found.ignored:
        notes.append(f"other files ignored: {found.ignored}")
    if found.repeated:
        notes.append(f"named more than once: {found.repeated}")
    console.print(", ".join(notes), highlight=False)


def print_scored(console: Console, scored: "ScoredVideo", row: dict[str, Any]) -> None:
    """Print all details of one video's result."""
    table = facts_table(escape(row["path"]))
    if scored.failure:
        table.add_row("failed", escape(scored.failure))
    elif scored.score is None:
        table.add_row("score", "none: the answer does not parse")
    else:
        table.add_row(
            "score", f"{scored.score:.2f}, on the scale of {LOWEST:g} (very poor) to {HIGHEST:g} (excellent)"
        )
    if scored.samples:
        table.add_row("samples", _samples(scored))
    if row["start_s"] is not None:
        table.add_row("window", _window(row))
    if scored.frames is not None:
        indices = ", ".join(map(str, scored.frames.indices))
        table.add_row("trace", escape(scored.trace))
        table.add_row("frames", f"{indices} of {scored.frames.n_total} (counted from 0)")
        table.add_row("size", f"{row['frame_size']} px, of {row['source_size']} px")
        table.add_row("decoder", scored.frames.decoder)
        if scored.frames.facts.marks:
            table.add_row("marks", escape(marks_text(scored.frames.facts.marks)))
    table.add_row("model", escape(row["checkpoint"]))
    table.add_row("seconds", f"{scored.seconds:.2f}")
    console.print(table, highlight=False)


def print_line(console: Console, scored: "ScoredVideo", row: dict[str, Any]) -> None:
    """Print one video's score and name on one line."""
    score = "  – " if scored.score is None else f"{scored.score:.2f}"
    spread = f" ± {scored.sample_spread:.2f}" if scored.sample_spread is not None else ""
    window = f" {_window(row)}" if scored.window_s else ""
    marks = (
        f"  ({marks_text(scored.frames.facts.marks)})" if scored.frames and scored.frames.facts.marks else ""
    )
    console.print(
        f"{score}{spread}  {row['video_id']}{window}{marks}", highlight=False, markup=False, soft_wrap=True
    )


def marks_text(marks: Mapping[str, Any]) -> str:
    """Describe the unusual properties of a file."""
    words = {
        "sar": "pixels of {}",
        "interlaced": "interlaced",
        "transfer": "HDR ({})",
        "truncated": "truncated: {}",
        "damaged_frames": "damaged frames: {}",
    }
    return "; ".join(
        words[name].format(", ".join(map(str, value)) if name == "damaged_frames" else value)
        for name, value in marks.items()
    )


def print_timeline(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a table of the windows of one video. Values in `rows` may be strings."""
    table = Table("from, s", "to, s", "score", "samples", "trace")
    for row in rows:
        spread = f" ± {float(row['sample_spread']):.2f}" if row["sample_spread"] else ""
        mean = f"{float(row['sample_mean']):.2f}{spread}" if row["sample_mean"] else ""
        score = f"{float(row['score']):.2f}" if row["score"] else "–"
        table.add_row(
            f"{float(row['start_s']):g}", f"{float(row['end_s']):g}", score, mean,
            escape(row["failure"] or row["trace"]),
        )  # fmt: skip
    console.print(table, highlight=False)


def print_marks(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print how many scored files are damaged or truncated."""
    for name, text in (("truncated", "from truncated files"), ("damaged_frames", "with damaged frames")):
        count = sum(row[name] not in ("", "[]", []) for row in rows)
        if count:
            console.print(f"[yellow]{count} scored {text}[/]; see the column `{name}`", highlight=False)


def _window(row: Mapping[str, Any]) -> str:
    return f"{row['start_s']:g} s to " + ("its end" if row["end_s"] is None else f"{row['end_s']:g} s")


def _samples(scored: "ScoredVideo") -> str:
    parsed = [s for s in scored.samples if s is not None]
    if not parsed:
        return f"none of {len(scored.samples)} parses"
    spread = "" if scored.sample_spread is None else f", standard deviation {scored.sample_spread:.2f}"
    scores = ", ".join(f"{s:.2f}" for s in parsed)
    return f"mean {scored.sample_mean:.2f}{spread} ({scores}; {len(parsed)} of {len(scored.samples)} parse)"
