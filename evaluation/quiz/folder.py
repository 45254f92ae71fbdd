"""The folder of a quiz: what was asked, every answer, and the results.

    quiz.json               what the answers depend on; answers of other settings need another folder
    predictions.jsonl       one line per answered question: the text, and whether it is right
    open_answers.jsonl      the open questions, for an LLM judge: question, reference, answer
    judgements.jsonl        the judge's grades, if one was asked
    results.json            accuracy by kind of question

A killed process leaves at most one incomplete line; the next process removes it.
"""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.row_file import check_settings, json_line, open_locked, whole_records, write_settings
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
        self._settings = settings
        self._exit = contextlib.ExitStack()
        self.predictions: dict[str, dict[str, Any]] = {}
        """The last row of each answered question, by its id."""
        self.judgements: dict[str, dict[str, Any]] = {}
        """The judge's grades of each open question, by its id."""

    def __enter__(self) -> "QuizFolder":
        """Raises OutputError if the folder cannot be made, is in use, or holds answers of other settings."""
        with contextlib.ExitStack() as opened:
            opened.enter_context(open_locked(self.path / ".lock", self.path))
            stamp = self.path / "quiz.json"
            if stamp.exists():
                check_settings(stamp, self._settings, self.path)
            else:
                write_settings(stamp, self._settings)
            self.predictions = self._read("predictions.jsonl")
            self.judgements = self._read("judgements.jsonl")
            self._exit = opened.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._exit.close()

    def add_prediction(self, row: Mapping[str, Any]) -> None:
        """Add a row with an `id`; it is in the file when this returns."""
        self.predictions[row["id"]] = dict(row)
        self._append("predictions.jsonl", row)

    def add_judgement(self, row: Mapping[str, Any]) -> None:
        self.judgements[row["id"]] = dict(row)
        self._append("judgements.jsonl", row)

    def write_open_answers(self, rows: list[dict[str, Any]]) -> None:
        write_atomically(self.path / "open_answers.jsonl", "".join(map(json_line, rows)))

    def write_results(self, results: Mapping[str, Any]) -> None:
        text = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(self.path / "results.json", text + "\n")

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        with (self.path / name).open("a", encoding="utf-8") as file:
            file.write(json_line(row))

    def _read(self, name: str) -> dict[str, dict[str, Any]]:
        path = self.path / name
        if not path.exists():
            return {}
        with path.open("r+b") as file:
            lines = list(whole_records(file))
            file.truncate(sum(map(len, lines)))
        rows = map(json.loads, lines)
        return {row["id"]: row for row in rows}
