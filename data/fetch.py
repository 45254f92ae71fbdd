"""Fetches and lists files by URL through fsspec, with a deadline per try and retries with backoff.

The drivers take credentials from the environment. Errors contain no credentials.
"""

import asyncio
import concurrent.futures
import contextlib
import errno
import random
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from data.fetch_settings import Fetching
from data.urls import is_web, redacted
from runtime.calls import within

_STALL_S = 30.0
_CONNECT_S = 10.0
_GRACE_S = 5.0
_ROOM_POLL_S = 0.5
_CHUNK_BYTES = 2**20
_EXTRAS = {"s3": "s3", "s3a": "s3"}
"""Extras of this project that install a driver, by URL scheme."""
_WORTH_RETRYING = frozenset((408, 425, 429))
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError")

Reserve = Callable[[int | None], int]
"""Reserves disk space for a file of the given size in bytes (None: unknown). Returns the maximum size that
the file may have, or raises NoRoom."""


class FetchError(Exception):
    """A file cannot be fetched. The message gives the reason and contains no credentials."""


class NoRoom(Exception):
    """There is no room for a file at present, because other files are in use. A later try may succeed."""


class _Refused(Exception):
    """A server answered with an HTTP status of 400 or higher."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"HTTP {status} {reason}".strip())
        self.status = status


def check_driver(url: str) -> None:
    """Raise FetchError, with the fix, if no driver for the URL's scheme is installed."""
    _driver(url)


def download(url: str, target: Path, fetching: Fetching, reserve: Reserve | None = None) -> None:
    """Write the file at `url` to `target`. Raises FetchError if all tries fail."""
    allow = reserve or (lambda size: 2**63)

    def one_try(timeout_s: float) -> None:
        if is_web(url):
            _wait(lambda files: _get_web(files, url, target, allow), url, timeout_s)
            return
        size = _call(url, "info", timeout_s).get("size")
        allowed = allow(size)
        _call(url, "get_file", timeout_s, str(target))
        written = target.stat().st_size
        if written > allowed or (size is not None and written != size):
            raise OSError(f"{written} bytes arrived of {size}")

    _retried(one_try, fetching)


def list_files(url: str, fetching: Fetching) -> list[str] | None:
    """Return the sorted URLs of all files below a folder or prefix; None if `url` is a file or an HTTP URL.

    Raises FetchError, also if nothing exists at `url`.
    """
    if is_web(url):
        return None

    def one_try(timeout_s: float) -> list[str] | None:
        if _call(url, "info", timeout_s)["type"] == "file":
            return None
        scheme = url.split("://", 1)[0]
        found = _call(url, "find", timeout_s)
        return sorted(f"{scheme}://{str(name).split('://', 1)[-1].lstrip('/')}" for name in found)

    return _retried(one_try, fetching)


def check_reachable(url: str, fetching: Fetching) -> None:
    """Raise FetchError unless the file at `url` can be opened."""

    def one_try(timeout_s: float) -> None:
        if is_web(url):
            _wait(lambda files: _get_web(files, url, None, lambda size: 0), url, timeout_s)
        else:
            _call(url, "info", timeout_s)

    _retried(one_try, fetching)


def _retried(one_try: Callable[[float], Any], fetching: Fetching) -> Any:
    deadline = time.monotonic() + fetching.budget_s
    tried = 0
    while tried < fetching.tries:
        tried += 1
        try:
            return one_try(fetching.timeout_s)
        except FetchError:
            raise
        except NoRoom as error:
            if time.monotonic() > deadline:
                raise FetchError(str(error)) from None
            tried -= 1
            time.sleep(_ROOM_POLL_S)
            continue
        except Exception as error:
            reason, final = _reason(error, fetching.timeout_s)
        if final:
            raise FetchError(reason)
        if tried < fetching.tries:
            time.sleep(fetching.pause_s(tried) * random.uniform(0.5, 1))
    raise FetchError(f"{reason} ({fetching.tries} tries)")


def _reason(error: Exception, timeout_s: float) -> tuple[str, bool]:
    """Return the reason why a try failed, and True if the next try would fail too."""
    if isinstance(error, _Refused):
        return str(error), error.status < 500 and error.status not in _WORTH_RETRYING
    if isinstance(error, FileNotFoundError):
        return "does not exist", True
    if isinstance(error, PermissionError) or type(error).__name__ in _NO_CREDENTIALS:
        text = redacted(str(error)) or type(error).__name__
        return f"access is denied ({text}): give credentials in the environment", True
    if isinstance(error, TimeoutError | concurrent.futures.TimeoutError):
        return f"not fetched within {timeout_s:g} s, or it stalled for {_STALL_S:g} s", False
    final = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    return redacted(f"{type(error).__name__}: {error}"), final


def _driver(url: str) -> Any:
    """Return the fsspec file system of a URL, one per process. Raises FetchError if its driver is missing."""
    import fsspec

    scheme = url.split("://", 1)[0]
    options: dict[str, Any] = {"use_listings_cache": False}
    try:
        if is_web(url):
            import aiohttp

            timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_STALL_S)
            options["client_kwargs"] = {"timeout": timeout, "trust_env": True}
        return fsspec.filesystem(scheme, **options)
    except ImportError as error:
        fix = f'pip install "vqathinker-ray[{extra}]"' if (extra := _EXTRAS.get(scheme)) else str(error)
        raise FetchError(f"no driver for {scheme}:// is installed: {fix}") from None
    except ValueError:
        raise FetchError(f"fsspec has no driver for {scheme}://: use s3:// or https://") from None


def _call(url: str, method: str, timeout_s: float, *arguments: str) -> Any:
    """Call a method of the URL's file system on the URL, with a deadline."""
    path = url.split("://", 1)[1]
    files = _driver(url)
    if files.async_impl:
        return _wait(lambda files: getattr(files, f"_{method}")(path, *arguments), url, timeout_s)
    # A driver without coroutines cannot be interrupted, so its thread keeps running after the deadline.
    done: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def work() -> None:
        try:
            done.set_result(getattr(files, method)(path, *arguments))
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return done.result(timeout_s)


def _wait(make: Callable[[Any], Coroutine[Any, Any, Any]], url: str, timeout_s: float) -> Any:
    """Run a coroutine in fsspec's event loop, and cancel it at the deadline."""
    files = _driver(url)
    future = asyncio.run_coroutine_threadsafe(within(make(files), timeout_s, url), files.loop)
    try:
        return future.result(timeout_s + _GRACE_S)
    finally:
        future.cancel()


async def _get_web(files: Any, url: str, target: Path | None, reserve: Reserve) -> None:
    """Write an HTTP response to `target`. If that is None, only check the status."""
    session = await files.set_session()
    headers = {"Accept-Encoding": "identity"}
    async with session.get(files.encode_url(url), headers=headers) as response:
        if response.status >= 400:
            raise _Refused(response.status, response.reason or "")
        if target is None:
            return
        size = response.content_length
        allowed = await asyncio.to_thread(reserve, size)
        written = 0
        with contextlib.closing(target.open("wb")) as file:
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                written += len(chunk)
                if written > allowed:
                    raise FetchError(
                        f"is larger than {allowed} bytes, and its server does not say how large: raise "
                        f"data.cache_gb"
                    )
                file.write(chunk)
        if size is not None and written != size:
            raise OSError(f"{written} bytes arrived of {size}")
