"""Read the files of a quiz and check the fields of their entries."""

import csv
import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evaluation.quiz.item import LETTERS, QuizError

_SHOWN_CHARACTERS = 60

# A cell may exceed csv's default limit of 131,072 characters.
csv.field_size_limit(sys.maxsize)


class Entry:
    """One entry of a file: an object in a JSON list, a line of JSON lines, or a row of a table.

    `number` counts from 1. Every method raises QuizError for a field that is missing or of the wrong type.
    """

    def __init__(self, file: Path, number: int, fields: Any, root: Path) -> None:
        self.file = file
        self.number = number
        self._root = root
        if not isinstance(fields, dict):
            raise self.error("", f"is {_shown(fields)}, not an object with fields")
        self._fields = fields

    @property
    def item_id(self) -> str:
        return f"{self.file.name}:{self.number}"

    def error(self, field: str, problem: str) -> QuizError:
        place = f"{self.file}, entry {self.number}"
        return QuizError(f"{place}, {field}: {problem}" if field else f"{place}: {problem}")

    def has(self, name: str) -> bool:
        return self._fields.get(name) not in (None, "", [])

    def first_of(self, *names: str) -> str:
        """The first of the field names `names` that the entry has."""
        for name in names:
            if self.has(name):
                return name
        raise self.error(
            names[0], f"is missing (the entry has {', '.join(map(str, self._fields)) or 'nothing'})"
        )

    def value(self, name: str) -> Any:
        return self._fields[self.first_of(name)]

    def text(self, name: str) -> str:
        value = self.value(name)
        if not isinstance(value, str) or not value.strip():
            raise self.error(name, f"is {_shown(value)}, not a text")
        return value.strip()

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings; in a table, the cell holds it as JSON."""
        value = self.value(name)
        if isinstance(value, str) and value.lstrip().startswith("["):
            try:
                value = json.loads(value)
            except json.JSONDecodeError as error:
                raise self.error(name, f"is {_shown(value)}, not a JSON list: {error.msg}") from None
        if not isinstance(value, list) or not all(isinstance(text, str) and text.strip() for text in value):
            raise self.error(name, f"is {_shown(value)}, not a list of texts")
        return tuple(text.strip() for text in value)

    def number_of(self, name: str) -> float:
        value = self.value(name)
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise self.error(name, f"is {_shown(value)}, not a number")
        return number

    def letter(self, name: str, n_options: int) -> str:
        """A letter that names one of `n_options` options."""
        value = self.text(name)
        letter = re.fullmatch(r"\(?([A-Z])[).]?", value)
        if letter is None or letter[1] not in LETTERS[:n_options]:
            raise self.error(name, f"is {_shown(value)}, not a letter from A to {LETTERS[n_options - 1]}")
        return letter[1]

    def options(self, name: str, options: tuple[str, ...]) -> tuple[str, ...]:
        """Return `options`, read from the field `name`, after checking that there are 2 to 26 of them."""
        if not 2 <= len(options) <= len(LETTERS):
            raise self.error(name, f"holds {len(options)} option(s): a choice is among 2 to {len(LETTERS)}")
        return options

    def video(self, field: str, name: str) -> str:
        """The absolute path of the video that the value `name` of `field` refers to. It need not exist."""
        try:
            path = (self._root / name.strip("\ufeff \t\r\n")).resolve()
        except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL character, or a loop of links
            raise self.error(field, f"{_shown(name)} is not a path: {error}") from None
        if not path.is_relative_to(self._root):
            raise self.error(
                field,
                f"'{name}' leaves the folder {self._root}: name a video inside it, or give another --videos",
            )
        return str(path)


def read_entries(file: Path, root: Path) -> Iterator[Entry | QuizError]:
    """Yield the entries of a .json, .jsonl, .csv or .tsv file, or a QuizError for one that is not an object.

    Args:
        root: folder of the videos.
    Raises:
        QuizError: if the file cannot be read or parsed, or has no entries.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise QuizError(f"{file}: cannot be read: {error}") from None
    count = 0
    for number, fields in _parsed(file, text):
        count += 1
        try:
            yield Entry(file, number, fields, root)
        except QuizError as error:
            yield error
    if not count:
        raise QuizError(f"{file}: has no entries")


def _parsed(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    match file.suffix.lower():
        case ".json":
            entries = _json(text, f"{file}")
            if not isinstance(entries, list):
                raise QuizError(f"{file}: holds {_shown(entries)}, not a list of entries")
            yield from enumerate(entries, start=1)
        case ".jsonl":
            for number, line in enumerate(text.split("\n"), start=1):
                if line.strip():
                    yield number, _json(line, f"{file}, entry {number}")
        case ".csv" | ".tsv":
            delimiter = "," if file.suffix.lower() == ".csv" else "\t"
            rows = csv.DictReader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
            try:
                yield from enumerate(rows, start=1)
            except csv.Error as error:
                raise QuizError(f"{file}: is not a valid table: {error}") from None
        case other:
            raise QuizError(f"{file}: a quiz is a .json, .jsonl, .csv or .tsv file, not '{other}'")


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise QuizError(f"{place}: is not JSON: {error}") from None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
