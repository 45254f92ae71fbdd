"""Files below a folder that no path may leave, named by a path or found by a label."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

VIDEO_SUFFIXES = frozenset(
    (".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv",
     ".y4m")
)  # fmt: skip


class FilesBelow:
    """Finds files below `base`. Folders are resolved once: each of thousands of files costs one look at the
    disk."""

    def __init__(self, base: Path, check: bool, option: str = "--data.root") -> None:
        """`base` is absolute and resolved; `check`: whether the files have to be there; `option` sets another
        base."""
        self.base = base
        self._check = check
        self._option = option
        self._resolved: dict[str, str] = {}

    def locate(self, text: str) -> str:
        """The absolute path of the file that `text` names, links followed.

        Raises LookupError with what is wrong and its cure.
        """
        folder, name = os.path.split(os.path.join(self.base, text))
        if folder not in self._resolved:
            self._resolved[folder] = os.path.realpath(folder)
        path = os.path.join(self._resolved[folder], name)
        mode = _mode(path)
        if name in ("", ".", "..") or stat.S_ISLNK(mode):
            path = os.path.realpath(path)
            mode = _mode(path)
        if not Path(path).is_relative_to(self.base):
            raise LookupError(f"'{text}' leaves the folder {self.base}: move the file, or set {self._option}")
        if self._check and not stat.S_ISREG(mode):
            raise LookupError(f"{path} does not exist: correct the path, or set {self._option}")
        return path


def _mode(path: str) -> int:
    """What kind of file this is, links not followed; 0 if there is none."""
    try:
        return os.lstat(path).st_mode
    except (OSError, ValueError):  # a ValueError is a NUL in the name
        return 0


class NotFound(Exception):
    """No file, or no single one, is what a label names. The text says why."""


class VideoFolder:
    """The files below a folder, listed once: a set of thousands costs no look-up on the disk each.

    Links to folders are not followed, and files that a link leads out of the folder to are not taken.
    """

    def __init__(self, root: Path) -> None:
        """Raises NotADirectoryError."""
        self.root = root.resolve()
        if not self.root.is_dir():
            raise NotADirectoryError(
                f"{root}: no such folder; give the one that holds the videos with --videos"
            )
        self._outside: set[str] = set()
        self.files = sorted(self._walk())
        self._known = frozenset(self.files)
        self._by_name: dict[str, list[str]] = {}
        for file in self.files:
            name = PurePosixPath(file).name
            for key in {name, os.path.splitext(name)[0]}:
                self._by_name.setdefault(key, []).append(file)

    def find(self, label: str, endings: Sequence[str] = ()) -> str:
        """The file that a label names, as a path relative to the folder.

        That is the file at the label's path; else the only one below the folder whose path ends with the
        label's, its suffix left out if the label has none; else the same with one of `endings` behind the
        name.

        Raises NotFound. A file of the same name in another sub-folder than the label's is another video.
        """
        wanted = PurePosixPath(label)
        if wanted.is_absolute():
            if not wanted.is_relative_to(self.root):
                raise NotFound("leaves the folder of the videos")
            wanted = wanted.relative_to(self.root)
        if ".." in wanted.parts:
            raise NotFound("leaves the folder of the videos")
        if str(wanted) in self._known:
            return str(wanted)
        if str(wanted) in self._outside:
            raise NotFound("is a link that leaves the folder of the videos")
        stem, suffix = os.path.splitext(wanted.name)
        if suffix.lower() not in VIDEO_SUFFIXES:
            stem, suffix = wanted.name, ""
        for name in (wanted.name, *(stem + ending for ending in endings)):
            found = [
                file
                for file in self._by_name.get(name, ())
                if PurePosixPath(file).parts[-len(wanted.parts) : -1] == wanted.parts[:-1]
            ]
            if len(found) == 1:
                return found[0]
            if found:
                raise NotFound(f"could be any of {len(found)} files: {', '.join(found[:3])}")
        raise NotFound("is not there")

    def videos(self) -> list[str]:
        """The files whose suffix is a video's, as relative paths."""
        return [file for file in self.files if os.path.splitext(file)[1].lower() in VIDEO_SUFFIXES]

    def _walk(self) -> list[str]:
        base = str(self.root)
        found = []
        for folder, _, names in os.walk(base):
            inner = os.path.relpath(folder, base)
            for name in names:
                file = name if inner == "." else f"{inner}/{name}"
                if os.path.islink(os.path.join(folder, name)) and not self._stays(file):
                    self._outside.add(file)
                else:
                    found.append(file)
        return found

    def _stays(self, file: str) -> bool:
        target = (self.root / file).resolve()
        return target.is_relative_to(self.root) and target.is_file()
