"""Names of videos, and files below a folder or URL that no path may leave."""

import os
import stat
from pathlib import Path

from data.urls import Location, UrlError, check_url, is_url, join, redacted

VIDEO_SUFFIXES = frozenset(
    (".264", ".265", ".3g2", ".3gp", ".apng", ".asf", ".av1", ".avc", ".avi", ".avif", ".divx", ".dv", ".f4v",
     ".flv", ".gif", ".gxf", ".h261", ".h263", ".h264", ".h265", ".hevc", ".ismv", ".ivf", ".m1v", ".m2t",
     ".m2ts", ".m2v", ".m4v", ".mj2", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg",
     ".mts", ".mxf", ".nut", ".obu", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".trp", ".ts", ".vob", ".webm",
     ".webp", ".wmv", ".wtv", ".xvid", ".y4m")
)  # fmt: skip
"""Suffixes by which files in a folder are recognised as videos. A file that the user names explicitly may
have any suffix."""
PICTURE_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"))


def is_video(name: str) -> bool:
    """Return True if a file's name has a video's suffix."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def is_picture(name: str) -> bool:
    """Return True if a file's name has a picture's suffix and the file is not hidden."""
    return os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES and not name.startswith(".")


class FilesBelow:
    """Finds files below `root`. Without a `root` it finds files below `folder`, and URLs are allowed too.

    Each folder is resolved only once, so a file needs one disk access.
    """

    def __init__(self, folder: Path, root: Location | None, check: bool, option: str = "--data.root") -> None:
        """Args: check: require that local files exist; option: the option that sets `root`, for errors."""
        where = folder if root is None else root
        self._url = where if isinstance(where, str) else None
        self.base = Path(where).resolve()
        self._rooted = root is not None
        self._check = check
        self._option = option
        self._resolved: dict[str, str] = {}

    def locate(self, text: str) -> str:
        """Return the absolute path of the file that `text` names, with links resolved, or its URL.

        Raises LookupError, with the problem and its fix.
        """
        try:
            if self._url is not None:
                return join(self._url, text)
            if is_url(text) and not self._rooted:
                return check_url(text)
        except UrlError as error:
            raise LookupError(str(error)) from None
        except LookupError as error:
            raise LookupError(f"{error.args[0]}: move the file, or set {self._option}") from None
        if is_url(text):
            text = redacted(text)
            raise LookupError(f"'{text}' leaves the folder {self.base}: remove {self._option}, or correct it")
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
    """Return the type and mode of a file without following links; 0 if it does not exist."""
    try:
        return os.lstat(path).st_mode
    except (OSError, ValueError):  # ValueError: the name contains a NUL
        return 0
