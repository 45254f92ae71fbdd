"""URLs as an alternative to paths: detects and validates them, and joins relative paths to a root."""

import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from runtime.errors import ConfigError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_URL_IN_TEXT = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+://)([^/\s'\"<>?#]*@)?([^\s'\"<>?#]*)([?#][^\s'\"<>]*)?")
_WEB = ("http", "https")

Location = Path | str
"""A path on this machine, or a URL. A str is always a URL that `check_url` has accepted."""


class UrlError(ConfigError):
    """A URL is refused. The message gives the reason and contains no credentials."""


def is_url(text: object) -> bool:
    """Return True if text is a URL. A drive letter or a path with a colon is not a scheme."""
    return isinstance(text, str) and _SCHEME.match(text) is not None


def is_web(url: str) -> bool:
    """Return True for an HTTP URL. HTTP cannot list folders."""
    return url.split("://", 1)[0].lower() in _WEB


def redacted(text: str) -> str:
    """Remove user names, passwords and query strings from the URLs in a text."""

    def without(found: re.Match[str]) -> str:
        scheme, user, rest, query = found.groups()
        return f"{scheme}{'***@' if user else ''}{rest}{query[0] + '***' if query else ''}"

    return _URL_IN_TEXT.sub(without, text)


def check_url(url: str) -> str:
    """Validate a URL, and return it without a trailing slash.

    Raises UrlError if the URL contains credentials, because they would be recorded, or if it cannot be used.
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


def location(text: str) -> Location:
    """Convert text to a path or a validated URL. Raises UrlError."""
    return check_url(text) if is_url(text) else Path(text)


def join(root: str, below: str) -> str:
    """Return the validated URL of `below`, a relative path or a URL, which must be below the URL `root`.

    Raises LookupError if it is outside the root, and UrlError if it cannot be used.
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
    """Return True if a name from a listing can be joined to `root`. A bucket's key may be any text."""
    try:
        join(root, below)
    except (LookupError, UrlError):
        return False
    return True


def name_of(where: Location) -> PurePosixPath:
    """Return the file name of a path or URL, its last component."""
    return PurePosixPath(str(where).rsplit("/", 1)[-1])


def _leaves(url: str) -> bool:
    """Return True if a server could interpret a part of the path as the same folder (.) or its parent
    (..)."""
    path = url.split("://", 1)[1]
    if is_web(url):
        path = urlsplit(url).path
        while (plain := unquote(path)) != path:
            path = plain
    return any(part in (".", "..") for part in re.split(r"[/\\]", path))
