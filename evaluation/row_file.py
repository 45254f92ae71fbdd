"""Files to which rows are appended during a job: locks, recorded settings, removal of incomplete rows."""

import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from runtime.errors import ConfigError
from runtime.files import write_atomically


class OutputError(ConfigError):
    """The output cannot be written, or holds other results. The message says how to fix it."""


@contextlib.contextmanager
def open_locked(path: Path, out: Path) -> Iterator[BinaryIO]:
    """Open a file to read and append, and lock it against other processes until the block ends.

    Args:
        out: the value of --out, for error messages.
    Raises:
        OutputError: if the file cannot be created, or another process has locked it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise OutputError(f"--out {out}: {error.strerror}; give another --out") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"--out {out}: another process is writing to it; wait until it ends") from None
        yield file


def write_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Record the settings that affect the rows, given as JSON values."""
    write_atomically(path, json.dumps(settings, indent=2) + "\n")


def check_settings(path: Path, settings: Mapping[str, Any], out: Path) -> None:
    """Compare settings with those recorded at `path`; raises OutputError that names each difference."""
    try:
        before = json.loads(path.read_text())
    except json.JSONDecodeError:
        raise OutputError(f"--out {out}: {path} is not JSON; remove both, or give another --out") from None
    changed = [
        f"{name} was {before.get(name)!r} and is {settings.get(name)!r}"
        for name in before | dict(settings)
        if before.get(name) != settings.get(name)
    ]
    if changed:
        raise OutputError(
            f"--out {out} holds results of other settings: {'; '.join(changed)}. "
            f"Use the same settings as before, or give another --out"
        )


def whole_records(file: BinaryIO, is_csv: bool = False) -> Iterator[bytes]:
    """Yield the complete records before the first incomplete one. Quoted line breaks end no CSV record."""
    record = b""
    for line in file:
        record += line
        if not line.endswith(b"\n"):
            return
        if is_csv and record.count(b'"') % 2:
            continue
        yield record
        record = b""


def json_line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
