"""The output folder of a quiz: its settings, every answer, and the results.

    quiz.json               the settings that affect the answers; other settings need another folder
    predictions.jsonl       one line per question: the model's text, and whether it is right
    open_answers.jsonl      the open questions with reference and answer, as input for an LLM judge
    judgements.jsonl        the grades of the LLM judge, if there is one
    results.json            accuracy, in total and by kind of question

A killed process leaves at most one incomplete line per file; the next process removes it.
"""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.row_file import check_settings, json_line, open_locked, whole_records, write_settings
from runtime.files import write_atomically


class QuizFolder:
    """The output folder of a quiz, opened by one process at a time.

    with QuizFolder(Path("out"), settings) as folder:
        if item_id not in folder.predictions:
            folder.add_prediction(row)
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """`settings` are the settings that affect the answers, as JSON values."""
        self.path = path
        self._settings = settings
        self._exit = contextlib.ExitStack()
        self.predictions: dict[str, dict[str, Any]] = {}
        """The latest row of each question, by the question's id."""
        self.judgements: dict[str, dict[str, Any]] = {}
        """The latest row of grades of each open question, by the question's id."""

    def __enter__(self) -> "QuizFolder":
        """Raises OutputError if the folder cannot be created, is in use, or has answers of other settings."""
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
        """Append a row, identified by its field `id`, to the file and to `predictions`."""
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
