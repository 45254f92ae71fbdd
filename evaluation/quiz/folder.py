"""The folder of a quiz: what was asked, every answer, and the results.

    quiz.json               what the answers depend on; answers of other settings never join them
    predictions.jsonl       one line a question, appended as they come: what was said, and whether it is right
    open_answers.jsonl      the open questions, for a judge: question, reference, answer
    judgements.jsonl        what a judge said of them, if one was asked
    results.json            accuracy by kind of question

A process that is killed leaves at most one broken line, which the next one cuts off.
"""

import fcntl
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from runtime.errors import ConfigError
from runtime.files import write_atomically


class QuizFolder:
    """Opened by one process at a time.

    with QuizFolder(Path("out"), settings) as folder:
        if item_id not in folder.predictions:
            folder.add_prediction(row)
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """`settings`: what the answers depend on, as JSON values."""
        self.path = path
        self._settings = dict(settings)
        self.predictions: dict[str, dict[str, Any]] = {}
        """The last row of each question that was answered, by its id."""
        self.judgements: dict[str, dict[str, Any]] = {}
        """What the judge said of each open question, by its id."""

    def __enter__(self) -> "QuizFolder":
        """Raises ConfigError if the folder cannot be made, is in use, or holds answers of other settings."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise ConfigError(f"--out {self.path}: {error.strerror}; give another --out") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._check_settings()
            self.predictions = self._read("predictions.jsonl")
            self.judgements = self._read("judgements.jsonl")
        except BlockingIOError:
            self._lock.close()
            raise ConfigError(
                f"--out {self.path}: another process is writing to it; wait for its end"
            ) from None
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()

    def add_prediction(self, row: Mapping[str, Any]) -> None:
        """Add a row with an `id`; it is in the file when this returns."""
        self.predictions[row["id"]] = dict(row)
        self._append("predictions.jsonl", row)

    def add_judgement(self, row: Mapping[str, Any]) -> None:
        self.judgements[row["id"]] = dict(row)
        self._append("judgements.jsonl", row)

    def write_open_answers(self, rows: list[dict[str, Any]]) -> Path:
        path = self.path / "open_answers.jsonl"
        write_atomically(path, "".join(_line(row) for row in rows))
        return path

    def write_results(self, results: Mapping[str, Any]) -> Path:
        path = self.path / "results.json"
        write_atomically(path, json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        return path

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        with (self.path / name).open("a", encoding="utf-8") as file:
            file.write(_line(row))

    def _read(self, name: str) -> dict[str, dict[str, Any]]:
        path = self.path / name
        if not path.exists():
            return {}
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with path.open("r+b") as file:
                file.truncate(len(whole))
        rows = (json.loads(line) for line in whole.splitlines())
        return {row["id"]: row for row in rows}

    def _check_settings(self) -> None:
        path = self.path / "quiz.json"
        if not path.exists():
            write_atomically(path, json.dumps(self._settings, indent=2) + "\n")
            return
        before = json.loads(path.read_text())
        changed = [
            f"{name} was {before.get(name)!r} and is {self._settings.get(name)!r}"
            for name in before | self._settings
            if before.get(name) != self._settings.get(name)
        ]
        if changed:
            raise ConfigError(
                f"--out {self.path} holds answers that were made otherwise: {'; '.join(changed)}. "
                f"Go on with what they were made with, or give another --out"
            )


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
