"""An OpenAI-compatible server that runs no model: every request takes as long as it is told to.

    python -m tests.benchmarks.stub_server --port 18080 --milliseconds 50

``GET /stats`` tells how many completions were asked for, of how many different requests, and how many requests were in
flight at most; ``POST /reset`` starts counting anew. It ends by itself after ``--minutes``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from typing import Any

from aiohttp import web

WORDS = ["lorem", "ipsum", "dolor", "sit", "amet", "consectetur", "adipiscing", "elit", "sed", "do", "eiusmod"]


class Stub:
    """The server's counters and handlers."""

    def __init__(self, milliseconds: float) -> None:
        self.seconds = milliseconds / 1000
        self.reset()

    def reset(self) -> None:
        self.requests = self.completions = self.in_flight = self.most_in_flight = 0

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
        self.requests += 1
        self.completions += n
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.in_flight -= 1
        draws = random.Random(body.get("seed"))
        chat = request.path.endswith("/chat/completions")
        choices = [_choice(index, " ".join(draws.choices(WORDS, k=60)), chat) for index in range(n)]
        usage = {"prompt_tokens": 12, "completion_tokens": 60 * n, "total_tokens": 12 + 60 * n}
        kind = "chat.completion" if chat else "text_completion"
        head = {"id": f"stub-{self.requests}", "object": kind, "created": 0, "model": body.get("model", "stub")}
        return web.json_response({**head, "choices": choices, "usage": usage})

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "stub", "object": "model", "owned_by": "stub"}]})

    async def stats(self, request: web.Request) -> web.Response:
        counts = {"requests": self.requests, "completions": self.completions}
        return web.json_response({**counts, "in_flight": self.in_flight, "most_in_flight": self.most_in_flight})

    async def start_anew(self, request: web.Request) -> web.Response:
        self.reset()
        return web.json_response({})


def _choice(index: int, text: str, chat: bool) -> dict[str, Any]:
    said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    return {"index": index, "finish_reason": "stop", "logprobs": None, **said}


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
