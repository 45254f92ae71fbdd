"""URLs in the place of paths: which text is one, what is refused, and joining below a root."""

import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from runtime.errors import ConfigError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_URL_IN_TEXT = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+://)([^/\s'\"<>?#]*@)?([^\s'\"<>?#]*)([?#][^\s'\"<>]*)?")
_WEB = ("http", "https")

Place = Path | str
"""A path on this machine, or a URL: text is always a URL that `check_url` has accepted."""


class UrlError(ConfigError):
    """A URL that is not used; says why, with its credentials left out."""


def is_url(text: object) -> bool:
    """Whether text names a place by URL. A drive letter or a path with a colon is no scheme."""
    return isinstance(text, str) and _SCHEME.match(text) is not None


def is_web(url: str) -> bool:
    """Whether a URL is of HTTP, which lists no folders."""
    return url.split("://", 1)[0].lower() in _WEB


def redacted(text: str) -> str:
    """Text with user names, passwords and query strings removed from its URLs."""

    def without(found: re.Match[str]) -> str:
        scheme, user, rest, query = found.groups()
        return f"{scheme}{'***@' if user else ''}{rest}{query[0] + '***' if query else ''}"

    return _URL_IN_TEXT.sub(without, text)


def check_url(url: str) -> str:
    """The URL, without a slash at its end.

    Raises UrlError for one that carries credentials, which would be recorded, or that cannot be used.
    """
    shown = redacted(url)
    scheme, rest = url.split("://", 1)
    if "@" in rest.split("/", 1)[0]:
        raise UrlError(
            f"{shown}: contains a user name or a password, which would be recorded: remove it, and give "
            f"credentials in the environment (docs/data.md)"
        )
    if "?" in rest or (is_web(url) and "#" in rest):
        raise UrlError(
            f"{shown}: contains a query string, which may be a signature and would be recorded: give the "
            f"URL without it, and credentials in the environment (docs/data.md)"
        )
    if "::" in rest or "::" in scheme or any(ord(c) < 32 for c in url):
        raise UrlError(f"{shown}: chained URLs and control characters are not read")
    if scheme.lower() in ("file", "local"):
        raise UrlError(f"{shown}: give a file of this machine as a path, without {scheme}://")
    if not rest.strip("/") or _leaves(url):
        raise UrlError(f"{shown}: give a host or bucket, and a path without '.' and '..'")
    return f"{scheme.lower()}://{rest.rstrip('/')}"


def place(text: str) -> Place:
    """A path, or a checked URL. Raises UrlError."""
    return check_url(text) if is_url(text) else Path(text)


def join(root: str, below: str) -> str:
    """The checked URL of the file that `below`, a relative path or a URL, names below the URL `root`.

    Raises LookupError if it leaves the root, UrlError if it may not be used.
    """
    if is_url(below):
        url = check_url(below)
        if not url.startswith(f"{root}/"):
            raise LookupError(f"'{url}' leaves {root}")
        return url
    if below.startswith(("/", "\\")):
        raise LookupError(f"'{below}' leaves {root}")
    try:
        return check_url(f"{root}/{below}")
    except UrlError as error:
        raise LookupError(f"'{below}' below {error}") from None


def usable(root: str, below: str) -> bool:
    """Whether a name that a listing returned can be joined; a key of a bucket may be any text."""
    try:
        join(root, below)
    except (LookupError, UrlError):
        return False
    return True


def name_of(where: Place) -> PurePosixPath:
    """The last part of a place, as a path without folders."""
    return PurePosixPath(str(where).rsplit("/", 1)[-1])


def _leaves(url: str) -> bool:
    """Whether a server could read a part of the path as the folder itself or the one above."""
    path = url.split("://", 1)[1]
    if is_web(url):
        path = urlsplit(url).path
        while (plain := unquote(path)) != path:
            path = plain
    return any(part in (".", "..") for part in re.split(r"[/\\]", path))
