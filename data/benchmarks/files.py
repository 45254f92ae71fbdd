"""Matches the names in a label file with the files below one folder, or below the URL of a folder."""

import difflib
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path, PurePosixPath

from data.fetch import FetchError, list_files
from data.fetch_settings import DEFAULT_FETCHING, Fetching
from data.paths import is_video
from data.tables import TableError
from data.urls import Location, join, usable

_GRAM = 3
_RAREST_GRAMS, _CANDIDATES, _LEAST_LIKENESS = 8, 5, 0.6


class NotFound(Exception):
    """A label matches no file or several files. The message gives the reason."""


class Missing(NotFound):
    """No file has the name in a label."""


class VideoFolder:
    """The files below a folder, listed once so that finding a file needs no disk access.

    Links to folders are not followed. Links to files outside the folder are ignored.
    """

    def __init__(self, root: Location, fetching: Fetching = DEFAULT_FETCHING) -> None:
        """List the files below `root`. Raises TableError if it is not a folder, or its URL cannot be
        listed."""
        self._outside: set[str] = set()
        self.root: Location = root if isinstance(root, str) else root.resolve()
        if isinstance(self.root, str):
            self.files = _listed(self.root, fetching)
        elif self.root.is_dir():
            self.files = sorted(self._walk(self.root))
        else:
            raise TableError(f"{root}: no such folder; give the one that holds the videos with --videos")
        self._known = frozenset(self.files)
        self._by_name = self._index(lambda name: {name, os.path.splitext(name)[0]})
        self._by_base: dict[str, dict[str, list[str]]] = {}
        self._by_gram: dict[str, list[str]] | None = None

    def location(self, file: str) -> str:
        """Return the absolute path or URL of one of the files."""
        return join(self.root, file) if isinstance(self.root, str) else str(self.root / file)

    def find(self, label: str, ending: str | None = None) -> str:
        """Find the file that a label names, and return its path relative to the folder.

        These are tried in order: (1) the file at the label's path; (2) the only file whose path ends with the
        label's, ignoring the file's suffix if the label has none; (3) with an `ending`, the only file whose
        path equals the label's after removing the suffix and this regular expression from the end of both
        names.

        Raises NotFound. A file with the same name in another sub-folder than the label's does not match.
        """
        wanted = PurePosixPath(label)
        if wanted.is_absolute():
            if isinstance(self.root, str) or not wanted.is_relative_to(self.root):
                raise NotFound("leaves the folder of the videos")
            wanted = wanted.relative_to(self.root)
        if ".." in wanted.parts:
            raise NotFound("leaves the folder of the videos")
        if str(wanted) in self._known:
            return str(wanted)
        if str(wanted) in self._outside:
            raise NotFound("is a link that leaves the folder of the videos")
        matches = [self._by_name.get(wanted.name, [])]
        if ending is not None:
            matches.append(self._with_base(ending).get(_base(wanted.name, ending), []))
        for files in matches:
            found = [
                file
                for file in files
                if PurePosixPath(file).parts[-len(wanted.parts) : -1] == wanted.parts[:-1]
            ]
            if len(found) == 1:
                return found[0]
            if found:
                raise NotFound(f"could be any of {len(found)} files: {', '.join(found[:3])}")
        raise Missing("is not there")

    def nearest(self, label: str, taken: Collection[str] = ()) -> str | None:
        """Return the video whose name is most similar to the label's, except those in `taken`; None if no
        name is similar."""
        if self._by_gram is None:
            self._by_gram = self._index(_grams, self.videos())
        grams = [self._by_gram[gram] for gram in _grams(PurePosixPath(label).name) if gram in self._by_gram]
        shared = Counter(file for files in sorted(grams, key=len)[:_RAREST_GRAMS] for file in files)
        candidates = [file for file, _ in shared.most_common() if file not in taken][:_CANDIDATES]
        likeness = {file: _likeness(_stem(label), _stem(file)) for file in candidates}
        best = max(candidates, key=likeness.__getitem__, default=None)
        return best if best is not None and likeness[best] >= _LEAST_LIKENESS else None

    def videos(self) -> list[str]:
        """Return the files with a video's suffix, as relative paths."""
        return [file for file in self.files if is_video(file)]

    def _with_base(self, ending: str) -> dict[str, list[str]]:
        if ending not in self._by_base:
            self._by_base[ending] = self._index(lambda name: {_base(name, ending)}, self.videos())
        return self._by_base[ending]

    def _index(
        self, keys: Callable[[str], Iterable[str]], files: Iterable[str] | None = None
    ) -> dict[str, list[str]]:
        """Group files by the keys of their names."""
        found: dict[str, list[str]] = {}
        for file in self.files if files is None else files:
            for key in keys(PurePosixPath(file).name):
                found.setdefault(key, []).append(file)
        return found

    def _walk(self, base: Path) -> list[str]:
        found = []
        for folder, _, names in os.walk(base):
            inner = os.path.relpath(folder, base)
            for name in names:
                file = name if inner == "." else f"{inner}/{name}"
                if os.path.islink(os.path.join(folder, name)) and not _stays(base, file):
                    self._outside.add(file)
                else:
                    found.append(file)
        return found


def _stays(base: Path, file: str) -> bool:
    target = (base / file).resolve()
    return target.is_relative_to(base) and target.is_file()


def _listed(url: str, fetching: Fetching) -> list[str]:
    """Return the files below a URL, relative to it. Raises TableError."""
    try:
        files = list_files(url, fetching)
    except FetchError as error:
        raise TableError(f"{url}: {error}") from None
    if files is None:
        raise TableError(f"{url}: is a file, or of HTTP, which lists no folders: give a folder of a bucket")
    below = [file.removeprefix(f"{url}/") for file in files if file.startswith(f"{url}/")]
    return [name for name in below if usable(url, name)]


def _stem(name: str) -> str:
    """Remove the folder from a name and, for a video, its suffix."""
    name = PurePosixPath(name).name
    return os.path.splitext(name)[0] if is_video(name) else name


def _base(name: str, ending: str) -> str:
    return re.sub(f"(?:{ending})$", "", _stem(name))


def _grams(name: str) -> set[str]:
    text = f"^{_stem(name).casefold()}$"  # ^ and $ distinguish a short name from a part of a longer one
    return {text[at : at + _GRAM] for at in range(len(text) - _GRAM + 1)}


def _likeness(one: str, other: str) -> float:
    """Return the similarity of two names from 0 to 1. It is 1 if they differ only in case, or if one contains
    the other."""
    one, other = sorted((one.casefold(), other.casefold()), key=len)
    if one == other or (len(one) > _GRAM and one in other):
        return 1.0
    return difflib.SequenceMatcher(None, one, other).ratio()
