"""Files fetched by URL, kept on this machine: each is fetched once, and the least recently used are removed.

Processes share the folder without a server. A file KEY.video.SUFFIX has a lock KEY.lock: whoever reads the
file holds it shared, whoever fetches or removes it holds it alone. The kernel releases the locks of a process
that is killed; what it left (KEY.part.TOKEN, KEY.room) is removed by the next one that needs room. `.bound`
holds a count of bytes that is never too low, under a lock of its own.
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
from data.urls import Place, is_url, name_of
from data.video_file import VideoError

_UNSTATED_BYTES = 2**31
"""Room for a file whose server does not say how large it is."""
_FULL = 0.9
"""Share of the limit that removing files aims at, so that not every fetch has to look for one."""
_POLL_S = 0.02


@contextlib.contextmanager
def local_file(path: str, fetching: Fetching) -> Iterator[str]:
    """The path of a file on this machine: `path` itself, or a URL's in the cache, kept there until the exit.

    Raises VideoError of the kind not_fetched.
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
def table_file(where: Place, fetching: Fetching) -> Iterator[Path]:
    """A table or label file on this machine; a URL's is fetched on each use, since labels get corrected.

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
        """The file at `url`, fetched unless it is here. It is not removed before the exit.

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
            # Under the lock of the count: one who counts meanwhile could see neither room nor file.
            with _locked_file(self._folder / ".bound", fcntl.LOCK_EX, deadline):
                part.replace(file)
                room.unlink(missing_ok=True)
            _sync_folder(self._folder)
        finally:
            part.unlink(missing_ok=True)
            room.unlink(missing_ok=True)

    def _reserve(self, room: Path, size: int | None, deadline: float) -> int:
        """Remove files until there is room for one of `size` bytes; returns how many it may have.

        The reservation is the size of the sparse file `room`. Raises FetchError for a file that is too large,
        NoRoom as long as the others are in use.
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
        """Remove leftovers and the least recently used files; returns the bytes that remain."""
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
                # The room of a fetch in progress counts in place of its part.
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
        """Remove a file unless its lock is held; returns whether it is gone."""
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
    """Hold a lock on a file; yields its descriptor. Raises FetchError past the deadline."""
    while (held := _try_lock(path, kind)) is None:
        if time.monotonic() > deadline:
            raise FetchError("another process has been fetching it until the deadline (data.fetch_timeout_s)")
        time.sleep(_POLL_S)
    try:
        yield held
    finally:
        os.close(held)


def _try_lock(path: Path, kind: int) -> int | None:
    """A descriptor that holds the lock, or None. A lock on a file that has been removed is no lock."""
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
    """The count in `.bound`; None if there is none."""
    text = os.pread(bound, 20, 0)
    return int(text) if text.isdigit() else None


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
