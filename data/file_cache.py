"""A cache on this machine of files fetched by URL. Each is fetched once; the least recently used are removed
first.

Processes share the cache's folder without a server. A file KEY.video.SUFFIX has a lock KEY.lock, which
readers hold shared, and a process that fetches or removes the file holds exclusively. The kernel releases the
locks of a killed process. The next process that needs room removes its leftovers (KEY.part.TOKEN, KEY.room).
`.bound`, which has its own lock, contains an upper bound of the bytes in use.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data.fetch import FetchError, NoRoom, download
from data.fetch_settings import Fetching
from data.urls import Location, is_url, name_of
from data.video_file import VideoError

_UNSTATED_BYTES = 2**31
"""Bytes to reserve for a file whose server does not state its size."""
_FULL = 0.9
"""Files are removed until this share of the limit is in use, so that not every fetch must search for files to
remove."""
_POLL_S = 0.02


@contextlib.contextmanager
def local_file(path: str, fetching: Fetching) -> Iterator[str]:
    """Yield a file's path on this machine: `path` itself, or for a URL its file in the cache, which is kept
    until the block ends.

    Raises VideoError with the kind not_fetched.
    """
    if not is_url(path):
        yield path
        return
    with contextlib.ExitStack() as held:
        try:
            file = held.enter_context(FileCache(fetching).hold(path))
        except (FetchError, OSError) as error:
            raise VideoError(path, f"cannot be fetched: {error}", "not_fetched") from None
        yield str(file)


@contextlib.contextmanager
def table_file(where: Location, fetching: Fetching) -> Iterator[Path]:
    """Yield a table or label file on this machine. A URL is fetched at each use, because labels may be
    corrected.

    Raises FetchError.
    """
    if isinstance(where, Path):
        yield where
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name_of(where)
        download(where, file, fetching)
        yield file


@dataclass(frozen=True, slots=True)
class _Kept:
    used_ns: int
    key: str
    file: Path
    size: int


class FileCache:
    def __init__(self, fetching: Fetching) -> None:
        """Raises FetchError if the folder belongs to another user."""
        self._fetching = fetching
        self._folder = fetching.folder
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if fetching.cache_dir is None and self._folder.stat().st_uid != os.getuid():
            raise FetchError(f"{self._folder} belongs to another user: set data.cache_dir")

    @contextlib.contextmanager
    def hold(self, url: str) -> Iterator[Path]:
        """Yield the file at `url`, fetching it if necessary. It is not removed before the block ends.

        Raises FetchError.
        """
        key = hashlib.sha256(url.encode()).hexdigest()[:40]
        suffix = re.search(r"\.[A-Za-z0-9]{1,8}$", name_of(url).name)
        file = self._folder / f"{key}.video{suffix.group() if suffix else ''}"
        deadline = time.monotonic() + self._fetching.budget_s
        lock = self._folder / f"{key}.lock"
        while True:
            with _locked_file(lock, fcntl.LOCK_SH, deadline):
                if file.exists():
                    os.utime(file)
                    yield file
                    return
            with _locked_file(lock, fcntl.LOCK_EX, deadline):
                if not file.exists():
                    self._fetch(url, key, file, deadline)

    def _fetch(self, url: str, key: str, file: Path, deadline: float) -> None:
        part = self._folder / f"{key}.part.{secrets.token_hex(4)}"
        room = self._folder / f"{key}.room"
        try:
            download(url, part, self._fetching, lambda size: self._reserve(room, size, deadline))
            with part.open("rb") as written:
                os.fsync(written.fileno())
            # Hold the lock of `.bound`: otherwise a process that counts now could find neither room nor file.
            with _locked_file(self._folder / ".bound", fcntl.LOCK_EX, deadline):
                part.replace(file)
                room.unlink(missing_ok=True)
            _sync_folder(self._folder)
        finally:
            part.unlink(missing_ok=True)
            room.unlink(missing_ok=True)

    def _reserve(self, room: Path, size: int | None, deadline: float) -> int:
        """Remove files until there is room for a file of `size` bytes; returns the maximum size that it may
        have.

        The size of the sparse file `room` is the reservation. Raises FetchError if the file is too large, and
        NoRoom while the other files are in use.
        """
        limit = self._fetching.limit_bytes
        need = min(limit, _UNSTATED_BYTES) if size is None else size
        if need > limit:
            raise FetchError(f"has {need} bytes, more than data.cache_gb ({self._fetching.cache_gb:g})")
        with _locked_file(self._folder / ".bound", fcntl.LOCK_EX, deadline) as bound:
            total = _counted(bound)
            if total is None or total + need > limit:
                total = self._make_room(room, need)
            fits = total + need <= limit
            if fits:
                with room.open("wb") as reserved:
                    reserved.truncate(need)
                total += need
            os.pwrite(bound, b"%020d" % total, 0)
        if not fits:
            raise NoRoom("all files of the cache are in use: raise data.cache_gb")
        return need

    def _make_room(self, room: Path, need: int) -> int:
        """Remove leftovers and the least recently used files; returns the bytes still in use."""
        kept: list[_Kept] = []
        total = 0
        for entry in os.scandir(self._folder):
            key, _, kind = entry.name.partition(".")
            kind = kind.partition(".")[0]
            try:
                stat = entry.stat()
            except FileNotFoundError:
                continue
            if kind == "video":
                kept.append(_Kept(stat.st_mtime_ns, key, Path(entry.path), stat.st_size))
                total += stat.st_size
            elif kind in ("part", "room") and entry.path != str(room) and not self._remove(key, entry.path):
                # For a fetch in progress count its reservation (room) instead of its partial file (part).
                total += stat.st_size if kind == "room" else 0
        limit = self._fetching.limit_bytes
        if total + need <= limit:
            return total
        for oldest in sorted(kept, key=lambda one: one.used_ns):
            if total + need <= _FULL * limit:
                break
            if self._remove(oldest.key, oldest.file, with_lock=True):
                total -= oldest.size
        return total

    def _remove(self, key: str, file: str | Path, with_lock: bool = False) -> bool:
        """Remove a file unless its lock is held; returns True if the file is gone."""
        lock = self._folder / f"{key}.lock"
        held = _try_lock(lock, fcntl.LOCK_EX)
        if held is None:
            return False
        try:
            Path(file).unlink(missing_ok=True)
            if with_lock:
                lock.unlink(missing_ok=True)
        finally:
            os.close(held)
        return True


@contextlib.contextmanager
def _locked_file(path: Path, kind: int, deadline: float) -> Iterator[int]:
    """Hold a lock on a file inside the block, and yield the file's descriptor. Raises FetchError at the
    deadline."""
    while (held := _try_lock(path, kind)) is None:
        if time.monotonic() > deadline:
            raise FetchError("another process has been fetching it until the deadline (data.fetch_timeout_s)")
        time.sleep(_POLL_S)
    try:
        yield held
    finally:
        os.close(held)


def _try_lock(path: Path, kind: int) -> int | None:
    """Return a descriptor that holds the lock, or None. A lock on a file that was removed does not count."""
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, kind | fcntl.LOCK_NB)
        if os.fstat(held).st_ino == os.stat(path).st_ino:
            return held
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(held)
    return None


def _counted(bound: int) -> int | None:
    """Read the number in `.bound`; None if there is none."""
    text = os.pread(bound, 20, 0)
    return int(text) if text.isdigit() else None


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
