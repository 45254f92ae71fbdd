"""Write files atomically, so that a crash or a full disk leaves no partial file."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import RunDirectoryError


def write_atomically(path: Path, text: str) -> None:
    """Write a file atomically: at any time, even after a crash, it holds either the old or the new text."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@contextlib.contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Re-raise an OSError as a RunDirectoryError that names the file, which ENOSPC errors do not."""
    try:
        yield
    except OSError as error:
        raise RunDirectoryError(
            f"{path} cannot be written: {error.strerror}. Its content is intact: free storage, then resume "
            f"with `--resume`"
        ) from error
