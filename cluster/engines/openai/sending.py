"""Sending one request over HTTP: what comes back, no more of it than was asked for, or why nothing came."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import aiohttp
from yarl import URL

from cluster.engines.openai.address import Credentials, moved, proxy_for
from cluster.engines.openai.deadlines import Deadlines
from cluster.engines.openai.gate import Gate
from cluster.engines.openai.streaming import Cut, Pieces
from schemas.engine import OpenAISpec
from schemas.errors import BadInput
from schemas.redaction import redact
from schemas.unicode import whole

MOVED = frozenset({301, 302, 307, 308})
MOST_MOVES = 5
CONNECT_SECONDS = 30.0
EVENTS = (b"data:", b"event:", b":")
"""How a stream of events begins, by whatever type a server calls it."""
NO_ANSWER = 64 * 1024
"""Bytes of an answer that is none: only its first words are of use."""


class Busy(Exception):
    """The server can't just now.

    Args:
        said: why, for people.
        begun: an answer may have been begun, so nobody knows whether it has to be paid.
        told: seconds after which it wants to be asked again; 0 where it doesn't say.
        by_rate: it says that there were too many.
    """

    def __init__(self, said: str, begun: bool, told: float = 0.0, by_rate: bool = False) -> None:
        super().__init__(said)
        self.said = said
        self.begun = begun
        self.told = told
        self.by_rate = by_rate


class TooLong(Exception):
    """The answer has more bytes than it can have by what was asked."""


class Answer(NamedTuple):
    """What a server answered.

    Attributes:
        document: the body as JSON; None where it is something else.
        body: its bytes, where it isn't JSON.
        sent: the headers that carried the key.
        begun: some of an answer came before what the document says.
    """

    status: int
    headers: Mapping[str, str]
    document: Any
    body: bytes
    sent: Mapping[str, str]
    begun: bool


class Line:
    """The connections of one event loop, and the gate before them. None can be used from another loop."""

    def __init__(self, spec: OpenAISpec, credentials: Credentials) -> None:
        share = 60.0 * spec.replicas
        self.gate = Gate(
            spec.concurrency,
            spec.requests_per_minute and spec.requests_per_minute / share,
            spec.tokens_per_minute and spec.tokens_per_minute / share,
        )
        self._spec = spec
        self._credentials = credentials
        self._first = credentials.headers
        """Those that every request carries; merging others into them takes time."""
        self._deadlines = Deadlines(spec.timeout)
        self._moved: dict[URL, URL] = {}
        self._proxies: dict[URL, str | None] = {}
        self._session = aiohttp.ClientSession(
            # servers built on uvicorn hang up after 5 s of silence; so do we, a little earlier
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4.0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=min(CONNECT_SECONDS, spec.timeout)),
            headers={"Content-Type": "application/json", **credentials.headers},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def send(self, url: URL, payload: bytes, most: int) -> Answer:
        """Send one request.

        Args:
            most: bytes that the answer may have.

        Raises:
            Busy: there is no connection, or it broke, or nothing came in time.
            TooLong: the answer is longer.
            BadInput: the server sends requests on to another host, or the proxy doesn't know us.
        """
        try:
            with self._deadlines:
                return await self._send(self._moved.get(url, url) if self._moved else url, payload, most, url)
        except aiohttp.ClientHttpProxyError as error:
            if error.status == 407:
                raise BadInput(f"the proxy before {url.origin()} wants credentials: {_said(error)}") from error
            raise Busy(_said(error), begun=False) from error
        except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError) as error:
            raise Busy(_said(error), begun=False) from error
        except TimeoutError as error:
            raise Busy(f"didn't answer in {self._spec.timeout:g} s", begun=True) from error
        except (aiohttp.ClientError, Cut) as error:
            raise Busy(f"broke off: {_said(error)}", begun=True) from error

    async def _send(self, url: URL, payload: bytes, most: int, asked: URL, moves: int = 0) -> Answer:
        headers = self._credentials.headers
        news = None if headers is self._first else headers
        if url not in self._proxies:
            self._proxies[url] = proxy_for(url)
        async with self._session.post(
            url, data=payload, headers=news, proxy=self._proxies[url], allow_redirects=False
        ) as response:
            status = response.status
            if status not in MOVED or "Location" not in response.headers or moves == MOST_MOVES:
                streams = self._spec.stream and status < 300 and response.content_type == "text/event-stream"
                if streams:
                    document, begun = await _streamed(response, most)
                    return Answer(status, response.headers, document, b"", headers, begun)
                document, body = await _read(response, most if status < 300 else NO_ANSWER)
                if document is None and status < 300 and body.lstrip().startswith(EVENTS):
                    pieces = Pieces()
                    _feed(pieces, body + b"\n")
                    return Answer(status, response.headers, pieces.whole(), b"", headers, pieces.begun)
                return Answer(status, response.headers, document, body, headers, False)
            target = moved(url, response.headers["Location"])
        self._moved[asked] = target
        return await self._send(target, payload, most, asked, moves + 1)

    async def close(self) -> None:
        await self._session.close()


async def _read(response: aiohttp.ClientResponse, most: int) -> tuple[Any, bytes]:
    """Return an answer's document, or its bytes where it is none. Of errors the beginning is enough."""
    length = response.content_length
    if length is not None and length <= most and "Content-Encoding" not in response.headers:
        body = await response.read()
    else:
        body = await _bounded(response, most)
    try:
        return json.loads(_text(body)), b""
    except (ValueError, RecursionError):
        return None, body


def _text(body: bytes) -> str:
    """Return a body as text; where half a character of UTF-8 stands in it, with U+FFFD instead."""
    try:
        return body.decode("utf-8", "surrogatepass").removeprefix("\ufeff")
    except UnicodeDecodeError:
        return body.decode(errors="replace").removeprefix("\ufeff")


async def _bounded(response: aiohttp.ClientResponse, most: int) -> bytes:
    found, size = list[bytes](), 0
    async for data in response.content.iter_any():
        found.append(data)
        size += len(data)
        if size > most:
            response.close()  # what is still to come isn't read
            if response.status >= 300:
                break
            raise TooLong(f"the answer has more than {most:,} bytes, far more than was asked for")
    return b"".join(found)[:most]


async def _streamed(response: aiohttp.ClientResponse, most: int) -> tuple[Any, bool]:
    """Return an answer's document, or that of the error in its place, and whether some of an answer came before."""
    pieces, size = Pieces(), 0
    async for data in response.content.iter_any():
        size += len(data)
        if size > most:
            response.close()
            raise TooLong(f"the answer has more than {most:,} bytes, far more than was asked for")
        _feed(pieces, data)
    return pieces.whole(), pieces.begun


def _feed(pieces: Pieces, data: bytes) -> None:
    try:
        pieces.feed(data)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise Cut(f"no event of a stream: {error}") from error


def _said(error: BaseException) -> str:
    return redact(whole(str(error) or type(error).__name__))
