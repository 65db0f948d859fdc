"""Who may ask the view's server: the browser that was given the token, at the server's own name, from its own page.

* *The token* is in the address that is opened once; it becomes a cookie that no script reads and no other site sends.
* *The name*: a page elsewhere that has its own name resolve to this machine (DNS rebinding) comes with that name.
* *The origin*: a page elsewhere that sends something here says where it is from.
* *The policy*: the page loads nothing from elsewhere and runs nothing but its own script.
"""

from __future__ import annotations

import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
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
WHERE = "Open the address that `gristmill view` printed: it carries the token."


def new_token() -> str:
    return secrets.token_urlsafe(24)


class Guard:
    """An ASGI application around another: refuses what the module's text says, and adds the headers."""

    def __init__(self, app: ASGIApp, token: str, hosts: frozenset[str]) -> None:
        """Args:
        hosts: the server's own names, with its port, as a Host header has them.
        """
        self.app = app
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

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._refusal(scope) or self.app
        await answer(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return what is answered instead; None where the request may pass."""
        headers = Headers(scope=scope)
        if headers.get("host", "").lower() not in self.hosts:
            return PlainTextResponse("this server has another name", 421)
        origin = headers.get("origin")
        if origin is not None and origin.lower().removeprefix("http://") not in self.hosts:
            return PlainTextResponse("requests of other sites aren't answered", 403)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("this view only reads", 405, {"allow": "GET, HEAD"})
        asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in asked if name == "token"]
        if scope["path"] == "/" and given:
            return self._welcome(given, [pair for pair in asked if pair[0] != "token"])
        if not self._knows(headers.get("cookie", "")):
            return PlainTextResponse(WHERE, 401)
        return None

    def _welcome(self, given: list[str], rest: list[tuple[str, str]]) -> Response:
        if len(given) != 1 or not _same(given[0], self.token):
            return PlainTextResponse(WHERE, 401)
        answer = RedirectResponse("/" + (f"?{urlencode(rest)}" if rest else ""), 303)
        answer.set_cookie(self.cookie, self.token, httponly=True, samesite="strict", path="/")
        return answer

    def _knows(self, cookies: str) -> bool:
        try:
            found = SimpleCookie(cookies).get(self.cookie)
        except CookieError:
            return False
        return found is not None and _same(found.value, self.token)


def _same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "replace"), token.encode())
