"""Serve the viewer until Ctrl-C, after printing its address and opening a browser (`launch.py view`)."""

import secrets
import socket
import webbrowser
from collections.abc import Callable, Sequence
from urllib.parse import urlencode

import uvicorn

from monitoring.viewer.app import create_app
from monitoring.viewer.catalogue import Catalogue
from monitoring.viewer.guard import is_loopback
from runtime.errors import RunDirectoryError

FIRST_PORT = 8420
_PORTS_TRIED = 20
_ANY_ADDRESS = ("0.0.0.0", "::")


def serve(
    runs: Sequence[str],
    host: str,
    port: int | None,
    token: str | None,
    browser: bool,
    say: Callable[[str], None],
) -> None:
    """Serve the viewer until interrupted.

    Args:
        runs: run directories, or names under runs/; if empty, all runs there.
        host: address to listen on.
        port: port to listen on; default: the first free one from FIRST_PORT.
        token: token that requests must contain; if the host is not loopback, the default is a random token.
        browser: open a browser.
        say: called with the page's address.
    Raises:
        RunDirectoryError: if a name is not a run, or the server cannot listen on the address.
    """
    catalogue = Catalogue(runs)
    loopback = is_loopback(host)
    if not loopback and not token:
        token = secrets.token_urlsafe(24)
    listener = _listen(host, port)
    address = _address(host, listener.getsockname()[1], token)
    say(address)
    if browser:
        webbrowser.open(address)
    config = uvicorn.Config(
        create_app(catalogue, token, loopback), log_level="warning", access_log=False, ws="none"
    )
    uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int | None) -> socket.socket:
    """Open a listening socket on `port`; if that is None, on the first free port from FIRST_PORT."""
    ports = range(FIRST_PORT, FIRST_PORT + _PORTS_TRIED) if port is None else (port,)
    for number in ports:
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host.strip("[]"), number), family=family)
        except OSError as error:
            reason = error.strerror or str(error)
    raise RunDirectoryError(
        f"cannot listen on {host}, port {ports[-1]}: {reason}; give another --port or --host"
    )


def _address(host: str, port: int, token: str | None) -> str:
    name = socket.gethostname() if host in _ANY_ADDRESS else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + (f"?{urlencode({'token': token})}" if token else "")
