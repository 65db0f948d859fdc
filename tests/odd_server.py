"""A server with the chat API that behaves as a test tells it, in a thread of its own; it can go away and come back."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

Handler = Callable[["OddServer", web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]
USAGE = {"prompt_tokens": 20, "completion_tokens": 12}


def answer(text: str = "4", usage: Any = USAGE, **choice: Any) -> web.Response:
    """Return a completion; ``usage=None`` leaves that out."""
    one = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", **choice}
    body = {"choices": [one], **({} if usage is None else {"usage": usage})}
    return web.Response(text=json.dumps(body), content_type="application/json")


def refused(status: int, message: str, code: Any = None, **headers: str) -> web.Response:
    return web.json_response({"error": {"message": message, "code": code}}, status=status, headers=headers)


class OddServer:
    """Answers whatever ``handler`` makes of a request.

    Attributes:
        calls: the bodies that came, in order.
        now, most: requests that are being answered, and the most at once.
    """

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.calls: list[dict[str, Any]] = []
        self.requests: list[web.Request] = []
        self.now = self.most = 0
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Listen, on the port that it had before."""
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    def stop(self) -> None:
        """Go away: what is being answered breaks off, and nobody listens."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def __enter__(self) -> OddServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_post("/{place:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.calls.append(body)
        self.requests.append(request)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await self.handler(self, request, body)
        finally:
            self.now -= 1
