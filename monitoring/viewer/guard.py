"""Refuse requests that are not read-only, not for the page's own address, or without the required token."""

import hashlib
import hmac
import ipaddress

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    # Plotly's script adds style rules and inline styles.
    "style-src 'self' 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def is_loopback(host: str) -> bool:
    """Whether a name or address is a loopback address. IPv6 addresses may be in brackets."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:  # another name; it may resolve to any address, even if it starts with 127.
        return False


class Guard:
    """ASGI middleware that passes on allowed GET and HEAD requests and refuses all others.

    If the server listens on loopback, the Host header must be a loopback name. Otherwise a web site whose
    name resolves to 127.0.0.1 could read the page (DNS rebinding). A required token is sent as `?token=...`;
    the middleware moves it to a cookie, so that it does not stay in the address bar.
    """

    def __init__(self, app: ASGIApp, token: str | None, loopback: bool) -> None:
        self._app = app
        self._token = token
        self._loopback = loopback
        # Browsers share cookies between ports, so two viewers on one host need different cookie names.
        self._cookie = "viewer-" + hashlib.sha256((token or "").encode()).hexdigest()[:8]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = _CONTENT_POLICY
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
            await send(message)

        answer = self._refusal(scope)
        await (answer or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        """The response to a request that is refused or redirected; None for one that is allowed."""
        headers = Headers(scope=scope)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("the viewer is read-only", 405, {"Allow": "GET, HEAD"})
        if self._loopback and not is_loopback(_host_name(headers.get("host", ""))):
            return PlainTextResponse("open the viewer at the address that it printed", 421)
        if self._token is None:
            return None
        request = Request(scope)
        if "token" in request.query_params and self._matches(request.query_params["token"]):
            rest = request.url.remove_query_params("token").query
            answer = RedirectResponse(scope["path"] + (f"?{rest}" if rest else ""), 303)
            answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
            return answer
        if self._matches(request.cookies.get(self._cookie, "")):
            return None
        return PlainTextResponse("open the viewer at the address that it printed, including the token", 401)

    def _matches(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self._token or "").encode())


def _host_name(header: str) -> str:
    """The Host header without its port, in lower case."""
    name = header.lower()
    return name[: name.index("]") + 1] if name.startswith("[") and "]" in name else name.split(":", 1)[0]
