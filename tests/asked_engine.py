"""Asking the OpenAI-compatible engine: a server on loopback that a handler plays, and what came back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from cluster.engines.openai.engine import OpenAIEngine
from operators.engine import Completion, EngineError, Request, Scored, ScoreRequest
from schemas.engine import OpenAISpec, SamplingParams

KEY = "sk-a-very-secret-key"
Handler = Callable[[web.Request], Awaitable[web.Response]]
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}


def answer(text: str = "hello", n: int = 1, **choice: Any) -> web.Response:
    one = {"finish_reason": "stop", "message": {"role": "assistant", "content": text}, "text": text, **choice}
    return web.json_response({"choices": [{"index": i, **one} for i in range(n)], "usage": USAGE})


def ask(handler: Handler, *requests: Request, **spec: Any) -> list[list[Completion] | BaseException]:
    """Send requests at once to a server that runs ``handler``."""

    async def session() -> list[list[Completion] | BaseException]:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", handler)
        app.router.add_post("/v1/completions", handler)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        engine = OpenAIEngine(OpenAISpec(url=f"http://127.0.0.1:{port}/v1", model="m", **spec))
        try:
            return await asyncio.gather(*[engine.generate(item) for item in requests], return_exceptions=True)
        finally:
            await engine.close()
            await runner.cleanup()

    return asyncio.run(session())


def request(n: int = 1, seed: int = 5, prompt: str = '[{"role": "user", "content": "2+2?"}]', **params: Any) -> Request:
    return Request(prompt, SamplingParams(**params), seed, n, "k/0")


def score(wanted: ScoreRequest, handlers: dict[str, Handler], **spec: Any) -> Scored | BaseException:
    """Have a server that knows some endpoints score a text."""

    async def session() -> Scored | BaseException:
        app = web.Application()
        for place, handler in handlers.items():
            app.router.add_post(place, handler)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        engine = OpenAIEngine(OpenAISpec(url=f"http://127.0.0.1:{runner.addresses[0][1]}/v1", model="m", **spec))
        try:
            return (await asyncio.gather(engine.score(wanted), return_exceptions=True))[0]
        finally:
            await engine.close()
            await runner.cleanup()

    return asyncio.run(session())


def only(results: list[list[Completion] | BaseException]) -> list[Completion]:
    (result,) = results
    assert isinstance(result, list), result
    return result


def failed(results: list[list[Completion] | BaseException]) -> EngineError:
    (result,) = results
    assert isinstance(result, EngineError), result
    return result
