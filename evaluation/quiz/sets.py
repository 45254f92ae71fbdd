"""Read the questions of a supported quiz set from one or several files."""

from collections.abc import Callable, Sequence
from pathlib import Path

from evaluation.quiz.entries import Entry, read_entries
from evaluation.quiz.finevq import read_finevq
from evaluation.quiz.item import QuizError, QuizItem
from evaluation.quiz.qbench import read_qbench
from evaluation.quiz.vqa2 import read_levels, read_omnivqa

_LISTED_PROBLEMS = 20


def _each(read: Callable[[Entry], QuizItem]) -> Callable[[Sequence[Entry]], list[QuizItem]]:
    """Turn a reader of one entry into a reader of all entries, which reports all problems in one error."""

    def read_all(entries: Sequence[Entry]) -> list[QuizItem]:
        items, problems = [], []
        for entry in entries:
            try:
                items.append(read(entry))
            except QuizError as error:
                problems.append(str(error))
        _raise_if_any(problems)
        return items

    return read_all


READERS: dict[str, Callable[[Sequence[Entry]], list[QuizItem]]] = {
    "q-bench-video": _each(read_qbench),
    "finevq": _each(read_finevq),
    "omnivqa-fg": _each(read_omnivqa),
    "vqa2-levels": read_levels,
}
"""The reader of each supported set, by the set's name."""


def read_quiz(name: str, files: Sequence[Path], videos: Path) -> list[QuizItem]:
    """Read the questions of a set, in the order of `files`.

    Args:
        name: one of the keys of READERS.
        videos: folder that the names of videos are relative to and must lie in.
    Raises:
        QuizError: for invalid entries, all named in one message, or if none of the videos exists.
    """
    if name not in READERS:
        raise QuizError(f"'{name}' is not a known set: give one of {', '.join(READERS)}")
    root = videos.resolve()
    if not root.is_dir():
        raise QuizError(f"--videos {videos}: no such folder")
    if len({file.name for file in files}) < len(files):
        raise QuizError("two files have the same name, and ids of questions contain it: rename one")
    items = [item for file in files for item in _read_file(name, file, root)]
    if not any(Path(path).is_file() for item in items for path in item.videos):
        raise QuizError(
            f"--videos {videos}: holds none of the videos, of which the first is {items[0].videos[0]}"
        )
    return items


def _read_file(name: str, file: Path, root: Path) -> list[QuizItem]:
    entries, problems = [], []
    for entry in read_entries(file, root):
        if isinstance(entry, QuizError):
            problems.append(str(entry))
        else:
            entries.append(entry)
    _raise_if_any(problems)
    return READERS[name](entries)


def _raise_if_any(problems: list[str]) -> None:
    if not problems:
        return
    lines = problems[:_LISTED_PROBLEMS]
    if len(problems) > len(lines):
        lines.append(f"… and {len(problems) - len(lines)} more")
    raise QuizError("\n".join(lines))
