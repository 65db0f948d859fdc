"""The OpenAI-compatible engine and servers that refuse, fail, are slow or are away."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web

from cluster.engines import resolve
from cluster.engines.openai.deadlines import Deadlines
from cluster.engines.openai.engine import OpenAIEngine
from operators.engine import EngineError
from schemas.engine import OpenAISpec
from schemas.errors import BadInput
from tests.asked_engine import KEY, answer, ask, failed, only, request


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


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

    for handler, served, busy in ((gone, False, False), (garbage, True, False), (nothing, True, False)):
        error = failed(ask(handler, request(), patience=0))
        assert (error.transient, error.served, error.busy) == (True, served, busy), handler
    late = failed(ask(slow, request(), timeout=0.2, patience=60))
    assert (late.transient, late.served, late.busy) == (True, True, True)
    permanent = failed(ask(refused, request()))
    assert not permanent.transient
    assert "answered 400: context too long for key ***" in str(permanent)
    assert KEY not in str(permanent) and len(str(permanent)) < 700
    held_back = failed(ask(filtered, request()))
    assert not held_back.transient
    assert held_back.used == (7, 3)


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "null",
        '"text"',
        '{"choices": null}',
        '{"choices": [7]}',
        '{"choices": [{"message": {"content": [1]}}]}',
        '{"choices": [{"message": {"content": {"text": "x"}}}]}',
        '{"error": {"message": "upstream went away"}}',
    ],
)
def test_an_answer_of_another_shape_is_a_fault_of_the_server(body: str) -> None:
    async def odd(http: web.Request) -> web.Response:
        return web.Response(text=body, content_type="application/json")

    error = failed(ask(odd, request(), patience=0))
    assert error.transient
    if "error" in body:
        assert "upstream went away" in str(error)


@pytest.mark.parametrize("status", [401, 402, 404, 405])
def test_wrong_settings_end_the_run_rather_than_mark_samples(status: int) -> None:
    async def handler(http: web.Request) -> web.Response:
        return web.json_response({"error": {"message": f"no, {KEY}"}}, status=status)

    (error,) = ask(handler, request())
    assert isinstance(error, BadInput)
    assert f"answered {status}: no, ***. Check engine.url, engine.model ('m') and $OPENAI_API_KEY" in str(error)
    assert KEY not in str(error)


def test_a_request_that_is_forbidden_among_others_costs_itself_alone() -> None:
    async def handler(http: web.Request) -> web.Response:
        return web.Response(status=403, text="flagged") if (await http.json())["seed"] == 1 else answer()

    results = ask(handler, *[request(seed=i) for i in range(3)], concurrency=1)
    assert isinstance(results[0], list) and isinstance(results[2], list)
    assert not failed(results[1:2]).transient


@pytest.mark.parametrize("date", [False, True])
def test_a_server_that_says_when_to_come_back_is_obeyed(date: bool) -> None:
    wanted = 1.0 if not date else 3.0
    times: list[float] = []

    async def handler(http: web.Request) -> web.Response:
        times.append(time.time())
        said = "1" if not date else formatdate(times[0] + wanted, usegmt=True)  # whole seconds
        return answer() if len(times) > 1 else web.Response(status=429, headers={"Retry-After": said})

    only(ask(handler, request()))
    assert len(times) == 2
    assert times[1] - times[0] > wanted - 1.1


def test_a_key_that_no_header_can_carry_is_refused_without_being_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-first\nsk-second")
    with pytest.raises(BadInput, match=r"\$OPENAI_API_KEY") as refused:
        OpenAIEngine(OpenAISpec(model="m"))
    assert "sk-" not in str(refused.value)


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://host/v1", "http:///v1"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BadInput, match="is no URL"):
        resolve(OpenAISpec(url=url, model="m"))


def test_only_what_takes_too_long_is_ended_and_a_cancelled_request_stays_cancelled() -> None:
    async def session() -> list[Any]:
        deadlines = Deadlines(2.0)

        async def work(seconds: float) -> float:
            with deadlines:
                await asyncio.sleep(seconds)
            await asyncio.sleep(0.01)  # nothing of the limit is left behind
            return seconds

        doomed = asyncio.create_task(work(600))
        asyncio.get_running_loop().call_later(0.05, doomed.cancel)
        return await asyncio.gather(work(0.0), work(600), work(0.15), doomed, return_exceptions=True)

    quick, slow, almost, cancelled = asyncio.run(session())
    assert (quick, almost) == (0.0, 0.15)
    assert isinstance(slow, TimeoutError)
    assert isinstance(cancelled, asyncio.CancelledError)


def test_a_server_that_is_not_there_may_come_back() -> None:
    async def session() -> None:
        engine = OpenAIEngine(OpenAISpec(url="http://127.0.0.1:9/v1", model="m", patience=0))
        try:
            with pytest.raises(EngineError) as error:
                await engine.generate(request())
            assert error.value.transient and not error.value.served
        finally:
            await engine.close()

    asyncio.run(session())


def test_a_server_that_dies_under_a_request_may_come_back() -> None:
    async def dies(http: web.Request) -> web.Response:
        assert http.transport is not None
        http.transport.abort()
        return answer()

    async def breaks_off(http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(http)
        await response.write(b'{"choices": [')
        assert http.transport is not None
        http.transport.close()
        return response

    for handler in (dies, breaks_off):
        error = failed(ask(handler, request(), patience=60))  # pyright: ignore[reportArgumentType]
        assert (error.transient, error.served, error.busy) == (True, True, True), handler


def test_one_failure_among_many_leaves_the_others_alone() -> None:
    async def handler(http: web.Request) -> web.Response:
        body = await http.json()
        return web.Response(status=400, text="no") if body["seed"] == 7 else answer(str(body["seed"]))

    results = ask(handler, *[request(seed=i) for i in range(20)])
    assert [index for index, result in enumerate(results) if isinstance(result, EngineError)] == [7]
    assert [only([result])[0].text for index, result in enumerate(results) if index != 7] == [
        str(i) for i in range(20) if i != 7
    ]
