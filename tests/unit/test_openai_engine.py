"""The OpenAI-compatible engine against a real HTTP server on loopback that behaves as it is told."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from pydantic import ValidationError

from cluster.engines import build_engine, resolve
from cluster.engines.openai.engine import OpenAIEngine
from operators.engine import EngineError, Request, Scored, ScoreRequest
from schemas.engine import OpenAISpec, SamplingParams
from schemas.errors import BadInput
from tests.asked_engine import KEY, USAGE, Handler, answer, ask, failed, only, request, score


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


def test_what_a_server_left_out_is_asked_for_at_once() -> None:
    now, most = 0, 0

    async def handler(http: web.Request) -> web.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.05)
        now -= 1
        return answer()

    completions = only(ask(handler, request(n=7)))
    assert most == 6  # the first one tells that the server ignores n
    assert sum(completion.completion_tokens for completion in completions) == 7 * USAGE["completion_tokens"]


def test_in_flight_never_passes_the_limit_and_connections_are_kept() -> None:
    now, most, places = 0, 0, set[Any]()

    async def handler(http: web.Request) -> web.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        assert http.transport is not None
        places.add(http.transport.get_extra_info("peername"))
        await asyncio.sleep(0.002)
        now -= 1
        return answer()

    assert len(ask(handler, *[request(seed=i) for i in range(200)], concurrency=7)) == 200
    assert most == 7
    assert len(places) == 7


def test_an_engine_may_be_used_from_one_event_loop_after_another() -> None:
    async def handler(http: web.Request) -> web.Response:
        return answer()

    async def serve(engine: OpenAIEngine | None) -> OpenAIEngine:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", handler)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0 if engine is None else urlsplit(engine.spec.url).port or 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        engine = engine or OpenAIEngine(OpenAISpec(url=url, model="m"))
        assert (await engine.generate(request()))[0].text == "hello"
        await runner.cleanup()
        return engine

    engine = asyncio.run(serve(None))
    asyncio.run(serve(engine))
    asyncio.run(engine.close())


def test_extra_fields_add_and_leave_out_but_never_choose_the_sample() -> None:
    bodies: list[Any] = []

    async def handler(http: web.Request) -> web.Response:
        bodies.append(await http.json())
        return answer()

    only(ask(handler, request(), extra_body={"max_tokens": None, "max_completion_tokens": 9, "seed": None}))
    assert bodies[0]["max_completion_tokens"] == 9
    assert not {"max_tokens", "seed"} & bodies[0].keys()
    for taken in ({"seed": 3}, {"stream": True}, {"n": 2}, {"model": "other"}):
        with pytest.raises(ValidationError, match="set by the engine itself"):
            OpenAISpec(model="m", extra_body=taken)


@pytest.mark.parametrize(
    ("said", "meant"), [("stop", "stop"), ("length", "length"), ("odd", "cut"), ("stop_sequence", "stop_string")]
)
def test_the_servers_reason_becomes_one_of_ours(said: str, meant: str) -> None:
    async def handler(http: web.Request) -> web.Response:
        return answer(finish_reason=said, matched_stop=2)  # a number is the model's own end token

    assert only(ask(handler, request()))[0].finish_reason == meant


def test_two_event_loops_may_share_an_engine() -> None:
    async def handler(http: web.Request) -> web.Response:
        return answer()

    async def here() -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", handler)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        engine = OpenAIEngine(OpenAISpec(url=f"http://127.0.0.1:{runner.addresses[0][1]}/v1", model="m"))
        for _ in range(2):
            assert len(await engine.generate(request())) == 1
            assert len(await asyncio.to_thread(asyncio.run, engine.generate(request()))) == 1
        await engine.close()
        await engine.close()
        await runner.cleanup()

    asyncio.run(here())


SCHEMA = {"type": "object"}


def test_guides_are_sent_as_servers_take_them_and_answers_that_ignore_them_are_refused() -> None:
    bodies: list[Any] = []

    async def handler(http: web.Request) -> web.Response:
        bodies.append(await http.json())
        return answer('{"a": 1}' if "response_format" in bodies[-1] else "ab")

    only(ask(handler, request(json_schema=SCHEMA)))
    only(ask(handler, request(prompt="p", json_schema=SCHEMA), api="completions"))
    for body in bodies:
        assert body["response_format"]["type"] == "json_schema"
        assert body["response_format"]["json_schema"]["schema"] == SCHEMA
    only(ask(handler, request(regex="a[b]")))
    assert bodies[-1]["structured_outputs"] == {"regex": "a[b]"}
    error = failed(ask(handler, request(regex="[0-9]")))
    assert not error.transient
    assert "didn't keep to the regex" in str(error)

    async def ignores(http: web.Request) -> web.Response:
        return answer("Sure! {")

    assert "didn't write JSON" in str(failed(ask(ignores, request(json_schema=SCHEMA))))

    async def refuses(http: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "unknown field structured_outputs"}}, status=400)

    error = failed(ask(refuses, request(regex="a")))
    assert not error.transient
    assert "answered 400: unknown field structured_outputs" in str(error)


def test_a_reward_is_asked_for_beside_the_api() -> None:
    bodies: list[Any] = []

    async def classify(http: web.Request) -> web.Response:
        bodies.append(await http.json())
        usage = {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 8}}
        logits = [-2.5] if len(bodies) == 1 else [0.0, math.log(3)]
        return web.json_response({"data": [{"index": 0, "label": "ok", "probs": logits}], "usage": usage})

    text = ScoreRequest("2+2=", "4")
    # one label: the reward as it is; two: the last one's probability
    assert score(text, {"/classify": classify}, api="completions") == Scored(-2.5, (), 9, 8)
    assert bodies[0] == {"model": "m", "input": "2+2=4", "use_activation": False}
    chat = ScoreRequest('[{"role": "user", "content": "2+2?"}]', "4")
    assert score(chat, {"/classify": classify}) == Scored(pytest.approx(0.75), (), 9, 8)
    assert bodies[1]["messages"][-1] == {"role": "assistant", "content": "4"}
    assert isinstance(score(text, {}, api="completions"), BaseException)  # 404: no such endpoint


def test_steps_are_the_values_at_the_completions_own_tags() -> None:
    async def tokenize(http: web.Request) -> web.Response:  # a letter is a token
        return web.json_response({"tokens": [ord(letter) for letter in (await http.json())["prompt"]]})

    async def pooling(http: web.Request) -> web.Response:
        body = await http.json()
        assert body["task"] == "token_classify"
        assert body["use_activation"] is False
        values = [[at / 100] for at, _ in enumerate(body["input"])]
        return web.json_response({"data": [{"index": 0, "data": values}], "usage": {"prompt_tokens": len(values)}})

    handlers: dict[str, Handler] = {"/tokenize": tokenize, "/pooling": pooling}
    found = score(ScoreRequest("q+q", "ab+c+", "steps", "+"), handlers, api="completions")
    assert found == Scored(0.05, (0.05, 0.07), 8, 0)
    none = score(ScoreRequest("q+q", "abc", "steps", "+"), handlers, api="completions")
    assert isinstance(none, EngineError) and "no step tag '+'" in str(none)
    long = score(ScoreRequest("q+q", "abc", "steps", "++"), handlers, api="completions")
    assert isinstance(long, BadInput) and "must be one" in str(long)


def test_a_likelihood_is_read_from_an_echo_or_refused() -> None:
    async def echoes(http: web.Request) -> web.Response:
        assert (await http.json())["echo"] is True
        found = {"text_offset": [0, 2, 4, 5, 6], "token_logprobs": [None, -9.0, -0.5, -1.5, -7.0]}
        choice = {"text": "2+2=45!", "logprobs": found, "finish_reason": "length"}
        return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 4}})

    wanted = ScoreRequest("2+2=", "45", "likelihood")
    places: dict[str, Handler] = {"/v1/completions": echoes}
    assert score(wanted, places, api="completions") == Scored(-2.0, (-0.5, -1.5), 4, 0)

    async def does_not(http: web.Request) -> web.Response:
        return answer("6", logprobs={"token_logprobs": [-1.0], "text_offset": [0]})

    for refused in (score(wanted, {"/v1/completions": does_not}, api="completions"), score(wanted, places)):
        assert isinstance(refused, BadInput), refused


def test_log_probs_reasoning_stops_and_empty_texts() -> None:
    async def chat(http: web.Request) -> web.Response:
        assert (await http.json())["logprobs"] is True
        tokens = [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.5}]
        message = {"role": "assistant", "content": None, "reasoning_content": "hm"}
        return answer(message=message, logprobs={"content": tokens}, stop_reason="END")

    async def plain(http: web.Request) -> web.Response:
        return answer("", logprobs={"token_logprobs": [None, -2.0], "tokens": ["a", "b"]})

    (one,) = only(ask(chat, request(stop=("END",)), logprobs=True))
    assert (one.text, one.reasoning, one.finish_reason) == ("", "hm", "stop_string")
    assert (one.sum_logprob, one.mean_logprob, one.completion_tokens) == (-2.0, -1.0, 3)  # usage says more
    (other,) = only(ask(plain, request(prompt="2+2="), logprobs=True, api="completions"))
    assert (other.text, other.sum_logprob, other.finish_reason) == ("", -2.0, "stop")


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
    with pytest.raises(BadInput, match="api=completions"):
        asyncio.run(OpenAIEngine(OpenAISpec(model="m")).render([], chat=False))


def test_tools_calls_and_images_reach_the_server_and_calls_come_back() -> None:
    seen: list[Any] = []
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": [1, None]}}}
    sent = {**call, "function": {"name": "f", "arguments": '{"a": [1, null]}'}}
    tool = {"type": "function", "function": {"name": "f"}}
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "image", "image": "https://x.org/a.png"}]},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "12", "tool_call_id": "c", "name": "f"},
    ]

    async def handler(http: web.Request) -> web.Response:
        seen.append(await http.json())
        return answer(finish_reason="tool_calls", message={"role": "assistant", "content": None, "tool_calls": [sent]})

    engine = OpenAIEngine(OpenAISpec(url="http://127.0.0.1:1/v1", model="m"))
    prompt = asyncio.run(engine.render(turns, tools=[tool]))
    (completion,) = only(ask(handler, request(prompt=prompt)))
    (body,) = seen
    assert body["tools"] == [tool]
    image = {"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "?"}, image]},
        {"role": "assistant", "content": "", "tool_calls": [sent]},
        turns[2],
    ]
    assert (completion.text, completion.finish_reason) == ("", "stop")
    assert json.loads(completion.tool_calls or "") == [call]


def test_a_chat_with_tools_is_continued_and_a_text_refuses_them() -> None:
    seen: list[Any] = []

    async def handler(http: web.Request) -> web.Response:
        seen.append(await http.json())
        return answer()

    prompt = '{"messages": [{"role": "user", "content": "?"}], "tools": [{"type": "function"}]}'
    only(ask(handler, Request(prompt, SamplingParams(), 1, prefix="So")))
    assert seen[0]["messages"][-1] == {"role": "assistant", "content": "So"} and seen[0]["tools"]
    engine = OpenAIEngine(OpenAISpec(url="http://127.0.0.1:1/v1", model="m", api="completions"))
    with pytest.raises(BadInput, match="can't take tools"):
        asyncio.run(engine.render([{"role": "user", "content": "?"}], chat=False, tools=[{"type": "function"}]))
