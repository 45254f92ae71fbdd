"""Read the records appended to a JSON-lines file since the last read."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")


class GrowingFile(Generic[T]):
    """Follows a growing JSON-lines file, and remembers up to which byte it has read.

        if file.restarted():
            discard the records read so far
        for offset, size, record in file.new_records():
            ...

    An incomplete last line is left for the next call. A complete line that is not a valid record (two lines
    joined by a crash, a NaN) is skipped and counted in `broken`.
    """

    def __init__(self, path: Path, decode: Callable[[bytes], T]) -> None:
        self._path = path
        self._decode = decode
        self._offset = 0
        self._inode = 0
        self.broken = 0

    def restarted(self) -> bool:
        """Whether the file was replaced or truncated since the last read. If so, restart at byte 0."""
        try:
            stat = self._path.stat()
        except OSError:
            size, inode = 0, 0
        else:
            size, inode = stat.st_size, stat.st_ino
        known, self._inode = self._inode, inode
        if size >= self._offset and inode == known:
            return False
        self._offset, self.broken = 0, 0
        return True

    def new_records(self) -> Iterator[tuple[int, int, T]]:
        """Yield (offset, size in bytes, record) of every line completed since the last call."""
        try:
            file = self._path.open("rb")
        except OSError:
            return
        with file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                offset, self._offset = self._offset, self._offset + len(line)
                try:
                    record = self._decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    self.broken += 1
                    continue
                yield offset, len(line), record


class Records:
    """All records of a small JSON-lines file, as dictionaries with the field `attempt`.

    `fields` maps further required fields to their types. A record without them counts as broken.
    """

    def __init__(self, path: Path, fields: Mapping[str, type]) -> None:
        self._fields = {"attempt": int, **fields}
        self._decoder = msgspec.json.Decoder(dict[str, Any])
        self._file = GrowingFile(path, self._decode)
        self._records: list[dict[str, Any]] = []

    @property
    def broken(self) -> int:
        return self._file.broken

    def read(self) -> list[dict[str, Any]]:
        if self._file.restarted():
            self._records = []
        self._records += [record for _, _, record in self._file.new_records()]
        return self._records

    def _decode(self, line: bytes) -> dict[str, Any]:
        record = self._decoder.decode(line)
        for name, kind in self._fields.items():
            if not isinstance(record.get(name), kind):
                raise msgspec.ValidationError(f"{name} is not of type {kind.__name__}")
        return record
