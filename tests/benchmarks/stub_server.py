"""An OpenAI-compatible server that runs no model: every request takes as long as it is told to.

    python -m tests.benchmarks.stub_server --port 18080 --milliseconds 50

``GET /stats`` tells how many completions were asked for, in how many requests, how many requests were in flight at
most, and when the first came (seconds of the machine's monotonic clock); ``POST /reset`` starts counting anew. It ends
by itself after ``--minutes``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from typing import Any

from aiohttp import web

WORDS = ["lorem", "ipsum", "dolor", "sit", "amet", "consectetur", "adipiscing", "elit", "sed", "do", "eiusmod"]
TEXTS = [" ".join(random.Random(seed).choices(WORDS, k=59)) for seed in range(997)]
# the server shares the cores with what is measured, so its answers are put together from finished pieces
KIND = {True: "chat.completion", False: "text_completion"}
CHOICE = {
    True: '{"index": %d, "finish_reason": "stop", "logprobs": null, '
    '"message": {"role": "assistant", "content": "%s %s"}}',
    False: '{"index": %d, "finish_reason": "stop", "logprobs": null, "text": "%s %s"}',
}
ANSWER = (
    '{"id": "stub-%d", "object": "%s", "created": 0, "model": "stub", "choices": [%s], '
    '"usage": {"prompt_tokens": 12, "completion_tokens": %d, "total_tokens": %d}}'
)


class Stub:
    """The server's counters and handlers."""

    def __init__(self, milliseconds: float) -> None:
        self.seconds = milliseconds / 1000
        self.in_flight = 0
        self.reset()

    def reset(self) -> None:
        self.requests = self.completions = self.most_in_flight = 0
        self.first: float | None = None

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.complete)
        app.router.add_post("/v1/completions", self.complete)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/health", self.models)
        app.router.add_get("/stats", self.stats)
        app.router.add_post("/reset", self.start_anew)
        return app

    async def complete(self, request: web.Request) -> web.Response:
        body: dict[str, Any] = json.loads(await request.read())
        n = int(body.get("n") or 1)
        self.first = self.first or time.monotonic()
        self.requests += 1
        self.completions += n
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.in_flight -= 1
        chat = request.path.endswith("/chat/completions")
        text = TEXTS[self.requests % len(TEXTS)]
        choices = ", ".join(CHOICE[chat] % (index, body.get("seed") or self.requests, text) for index in range(n))
        answer = ANSWER % (self.requests, KIND[chat], choices, 60 * n, 12 + 60 * n)
        return web.Response(body=answer.encode(), content_type="application/json")

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "stub", "object": "model", "owned_by": "stub"}]})

    async def stats(self, request: web.Request) -> web.Response:
        counts = {"requests": self.requests, "completions": self.completions, "first": self.first}
        return web.json_response({**counts, "in_flight": self.in_flight, "most_in_flight": self.most_in_flight})

    async def start_anew(self, request: web.Request) -> web.Response:
        self.reset()
        return web.json_response({})


async def _serve(port: int, milliseconds: float, minutes: float) -> None:
    runner = web.AppRunner(Stub(milliseconds).application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.sleep(60 * minutes)
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=18080)
    parser.add_argument("--milliseconds", type=float, default=50.0)
    parser.add_argument("--minutes", type=float, default=30.0)
    options = parser.parse_args()
    asyncio.run(_serve(options.port, options.milliseconds, options.minutes))


if __name__ == "__main__":
    main()
