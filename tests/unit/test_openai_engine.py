"""The OpenAI-compatible engine against a real HTTP server on loopback that behaves as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from cluster.engines import build_engine, resolve
from cluster.engines.openai import AdaptiveLimit, OpenAIEngine
from operators.engine import Completion, EngineError, Request
from schemas.engine import OpenAISpec, SamplingParams
from schemas.errors import BadInput

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


def only(results: list[list[Completion] | BaseException]) -> list[Completion]:
    (result,) = results
    assert isinstance(result, list), result
    return result


def failed(results: list[list[Completion] | BaseException]) -> EngineError:
    (result,) = results
    assert isinstance(result, EngineError), result
    return result


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def test_a_chat_request_and_what_comes_back() -> None:
    seen: list[Any] = []

    async def handler(http: web.Request) -> web.Response:
        seen.append((http.headers["Authorization"], await http.json()))
        return answer("häh? ∑ 🙂", finish_reason="length")

    asked = request(temperature=0.7, top_p=0.9, top_k=40, min_p=0.05, max_tokens=33, stop=("\n",))
    (completion,) = only(ask(handler, asked, extra_body={"ignore_eos": True}))
    assert completion.text == "häh? ∑ 🙂"
    assert completion.finish_reason == "length"
    assert (completion.prompt_tokens, completion.cached_prompt_tokens, completion.completion_tokens) == (7, 4, 3)
    authorization, body = seen[0]
    assert authorization == f"Bearer {KEY}"
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "2+2?"}],
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.05,
        "max_tokens": 33,
        "seed": 5,
        "stop": ["\n"],
        "ignore_eos": True,
    }


def test_completions_take_the_prompt_as_text_and_a_beginning_is_continued() -> None:
    bodies: list[Any] = []

    async def handler(http: web.Request) -> web.Response:
        bodies.append(await http.json())
        return answer()

    begun = Request("2+2=", SamplingParams(), 1, 1, "k/0", "", "fo")
    only(ask(handler, begun, api="completions"))
    assert bodies[0]["prompt"] == "2+2=fo"
    chat = Request('[{"role": "user", "content": "2+2?"}]', SamplingParams(), 1, 1, "k/0", "", "fo")
    only(ask(handler, chat))
    assert bodies[1]["messages"][-1] == {"role": "assistant", "content": "fo"}
    assert bodies[1]["continue_final_message"] is True


@pytest.mark.parametrize("gives", [1, 3, 8])
def test_n_is_what_was_asked_for_whatever_the_server_makes_of_it(gives: int) -> None:
    seeds: list[int] = []

    async def handler(http: web.Request) -> web.Response:
        body = await http.json()
        seeds.append(body["seed"])
        return answer(str(body["seed"]), n=gives)

    completions = only(ask(handler, request(n=5)))
    assert len(completions) == 5
    assert len(set(seeds)) == len(seeds) == -(-5 // gives)


def test_an_overloaded_server_is_asked_again_and_gets_less() -> None:
    state = {"now": 0, "most": 0, "refused": 0}

    async def handler(http: web.Request) -> web.Response:
        if state["now"] >= 4:
            state["refused"] += 1
            return web.Response(status=429, headers={"Retry-After": "0.05"}, text="too much")
        state["now"] += 1
        state["most"] = max(state["most"], state["now"])
        await asyncio.sleep(0.01)
        state["now"] -= 1
        return answer()

    results = ask(handler, *[request(seed=i) for i in range(100)], concurrency=32)
    assert all(isinstance(result, list) for result in results)
    assert state["refused"] > 0


def test_faults_that_may_heal_and_faults_that_will_not() -> None:
    async def gone(http: web.Request) -> web.Response:
        return web.Response(status=500, text="boom")

    async def garbage(http: web.Request) -> web.Response:
        return web.Response(text="<html>")

    async def nothing(http: web.Request) -> web.Response:
        return web.json_response({"choices": []})

    async def slow(http: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return answer()

    async def refused(http: web.Request) -> web.Response:
        return web.Response(status=400, text=f"context too long for key {KEY}" + "x" * 5000)

    async def filtered(http: web.Request) -> web.Response:
        return answer(finish_reason="content_filter")

    for handler in (gone, garbage, nothing):
        assert failed(ask(handler, request())).transient, handler
    assert failed(ask(slow, request(), timeout=0.2)).transient
    assert failed(ask(gone, request(), timeout=0.2)).transient
    permanent = failed(ask(refused, request()))
    assert not permanent.transient
    assert "answered 400: context too long for key ***" in str(permanent)
    assert KEY not in str(permanent) and len(str(permanent)) < 700
    assert not failed(ask(filtered, request())).transient


def test_a_server_that_is_not_there_may_come_back() -> None:
    async def session() -> None:
        engine = OpenAIEngine(OpenAISpec(url="http://127.0.0.1:9/v1", model="m"))
        try:
            with pytest.raises(EngineError) as error:
                await engine.generate(request())
            assert error.value.transient
        finally:
            await engine.close()

    asyncio.run(session())


def test_log_probs_reasoning_stops_and_empty_texts() -> None:
    async def chat(http: web.Request) -> web.Response:
        assert (await http.json())["logprobs"] is True
        tokens = [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.5}]
        message = {"role": "assistant", "content": None, "reasoning_content": "hm"}
        return answer(message=message, logprobs={"content": tokens}, stop_reason="END")

    async def plain(http: web.Request) -> web.Response:
        return answer("", logprobs={"token_logprobs": [None, -2.0], "tokens": ["a", "b"]})

    (one,) = only(ask(chat, request(), logprobs=True))
    assert (one.text, one.reasoning, one.finish_reason) == ("", "hm", "stop_string")
    assert (one.sum_logprob, one.mean_logprob, one.completion_tokens) == (-2.0, -1.0, 2)
    (other,) = only(ask(plain, request(prompt="2+2="), logprobs=True, api="completions"))
    assert (other.text, other.sum_logprob, other.finish_reason) == ("", -2.0, "stop")


def test_one_failure_among_many_leaves_the_others_alone() -> None:
    async def handler(http: web.Request) -> web.Response:
        body = await http.json()
        return web.Response(status=400, text="no") if body["seed"] == 7 else answer(str(body["seed"]))

    results = ask(handler, *[request(seed=i) for i in range(20)])
    assert [index for index, result in enumerate(results) if isinstance(result, EngineError)] == [7]
    assert [only([result])[0].text for index, result in enumerate(results) if index != 7] == [
        str(i) for i in range(20) if i != 7
    ]


def test_the_limit_halves_once_a_moment_and_grows_back() -> None:
    limit = AdaptiveLimit(64)
    limit.overloaded()
    limit.overloaded()
    assert limit.limit == 32
    for _ in range(33):
        limit.succeeded()
    assert 32.9 < limit.limit < 34
    for _ in range(5000):
        limit.succeeded()
    assert limit.limit == 64


def test_the_key_is_nowhere_and_the_alias_is_unversioned() -> None:
    spec = OpenAISpec(model="gpt-x")
    assert resolve(spec) == ("gpt-x", "unversioned")
    assert resolve(OpenAISpec(model="m", revision="2026-01-01")) == ("m", "2026-01-01")
    engine = build_engine(spec)
    assert KEY not in repr(spec) + repr(engine.info) + spec.model_dump_json()
    with pytest.raises(BadInput, match="carries credentials"):
        resolve(OpenAISpec(url="http://user:pw@host/v1", model="m"))
    with pytest.raises(BadInput, match="chat template"):
        asyncio.run(OpenAIEngine(OpenAISpec(model="m", api="completions")).render([], chat=True))
