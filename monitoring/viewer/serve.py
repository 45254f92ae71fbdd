"""`launch.py view`: binds, says where the page is, opens a browser, serves until Ctrl-C."""

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
    """Show runs until interrupted.

    Args:
        runs: run directories, or names under runs/; none for all of them.
        port: default: the first free one from FIRST_PORT on.
        token: what requests must carry; on any host but loopback one is made if none is given.
        say: called with the page's address.
    Raises:
        RunDirectoryError: for a run that is none, or an address that cannot be had.
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
    """A listening socket, on `port` or the first free one."""
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
