"""Writing files whole: neither a crash nor a full disk leaves part of one."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import RunDirectoryError


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader, or a crash, sees the old text or the new one and nothing between."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@contextlib.contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Re-raise an OSError as a RunDirectoryError that names the file; ENOSPC alone does not."""
    try:
        yield
    except OSError as error:
        raise RunDirectoryError(
            f"{path} cannot be written: {error.strerror}. What it holds is intact: free storage, then resume "
            f"with `--resume`"
        ) from error
