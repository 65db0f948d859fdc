"""Who may ask the view's server: the browser that was given the token, at the server's own name, from its own page.

* *The token* is in the address that is opened once; it becomes a cookie that no script reads and no other site sends.
* *The name*: a page elsewhere that has its own name resolve to this machine (DNS rebinding) comes with that name.
* *The origin*: a page elsewhere that sends something here says where it is from.
* *What is done* (``--control`` only) needs a header besides, with a second secret that only the page is told.
* *The policy*: the page loads nothing from elsewhere and runs nothing but its own script.
"""

from __future__ import annotations

import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
ACTS = "x-gristmill-control"
"""The header that the page sends with what it wants done."""
WHERE = "Open the address that `gristmill view` printed: it carries the token."


def new_token() -> str:
    return secrets.token_urlsafe(24)


class Guard:
    """An ASGI application around another: refuses what the module's text says, and adds the headers."""

    def __init__(self, app: ASGIApp, token: str, hosts: frozenset[str], control: str | None = None) -> None:
        """Args:
        hosts: the server's own names, with its port, as a Host header has them.
        control: what a page has to send in ``ACTS`` with a POST; None where the view only reads.
        """
        self.app = app
        self.control = control
        self.token = token
        self.hosts = hosts
        self.cookie = f"gristmill-view-{next(iter(sorted(hosts))).rpartition(':')[2]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no web sockets here
            await send({"type": "websocket.close", "code": 1008})
            return

        refusal, welcome = self._judged(scope)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if welcome:
                    headers.append("set-cookie", f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/")
            await send(message)

        await (refusal or self.app)(scope, receive, with_headers)

    def _judged(self, scope: Scope) -> tuple[Response | None, bool]:
        """Return what is answered instead, None where the request may pass; and whether it brought the token.

        Whoever brings it gets the page, not a redirection to it: where the address was followed from another page, a
        browser wouldn't send the cookie along with that.
        """
        headers = Headers(scope=scope)
        if headers.get("host", "").lower() not in self.hosts:
            return PlainTextResponse("this server has another name", 421), False
        origins = headers.getlist("origin")
        origin = origins[0] if origins else None
        if len(origins) > 1 or (origin is not None and origin.lower().removeprefix("http://") not in self.hosts):
            return PlainTextResponse("requests of other sites aren't answered", 403), False
        if scope["method"] == "POST" and self.control is not None:
            return self._judged_to_act(headers, origin), False
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("this view only reads", 405, {"allow": "GET, HEAD"}), False
        asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in asked if name == "token"]
        if scope["path"] == "/" and given:
            right = len(given) == 1 and _same(given[0], self.token)
            return (None, True) if right else (PlainTextResponse(WHERE, 401), False)
        known = self._knows(headers.get("cookie", ""))
        return (None if known else PlainTextResponse(WHERE, 401)), False

    def _judged_to_act(self, headers: Headers, origin: str | None) -> Response | None:
        """Return what is answered instead of doing something; None where it may be done.

        A cookie may be sent along by a page elsewhere, and a header may not: so what is to be done needs both, and has
        to say that it comes from here.
        """
        if origin is None or not _same(headers.get(ACTS, ""), self.control or ""):
            return PlainTextResponse("only this view's own page may do that", 403)
        return None if self._knows(headers.get("cookie", "")) else PlainTextResponse(WHERE, 401)

    def _knows(self, cookies: str) -> bool:
        try:
            found = SimpleCookie(cookies).get(self.cookie)
        except CookieError:
            return False
        return found is not None and _same(found.value, self.token)


def _same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "replace"), token.encode())
