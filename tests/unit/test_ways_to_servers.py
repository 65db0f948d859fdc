"""The way to a server: URLs with a query, headers, keys that expire, proxies, redirects, answers in pieces."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from cluster.engines.openai import gate
from cluster.engines.openai.address import Credentials, beside, endpoint, moved, proxy_for
from cluster.engines.openai.engine import OpenAIEngine
from operators.engine import Completion, EngineError
from schemas.engine import OpenAISpec
from schemas.errors import BadInput
from tests.odd_server import OddServer, answer, refused
from tests.unit.test_openai_engine import request


def ask(spec: dict[str, Any], times: int = 1) -> list[Completion | BaseException]:
    """Ask a server one request after the other."""

    async def session() -> list[Completion | BaseException]:
        engine = OpenAIEngine(OpenAISpec.model_validate({"model": "m", "patience": 5.0, **spec}))
        found: list[Completion | BaseException] = []
        for seed in range(times):
            try:
                found += await engine.generate(request(seed=seed, max_tokens=64))
            except (EngineError, BadInput) as error:
                found.append(error)
        await engine.close()
        return found

    return asyncio.run(session())


@pytest.mark.parametrize(
    ("url", "there"),
    [
        ("http://h:8/v1", "http://h:8/v1/chat/completions"),
        ("http://h:8/v1/", "http://h:8/v1/chat/completions"),
        ("https://h/v1/chat/completions", "https://h/v1/chat/completions"),
        ("https://a.b/openai/x?api-version=1", "https://a.b/openai/x/chat/completions?api-version=1"),
        ("https://h/a%2Fb/v1?k=%26", "https://h/a%2Fb/v1/chat/completions?k=%26"),
    ],
)
def test_an_endpoint_is_below_the_url_whatever_its_query(url: str, there: str) -> None:
    assert str(endpoint(OpenAISpec(model="m", url=url), "chat/completions")) == there


def test_scores_are_beside_the_api() -> None:
    assert str(beside(OpenAISpec(model="m", url="http://h:8/v1/"), "classify")) == "http://h:8/classify"


def test_azure_and_gateways_get_their_query_and_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "plain-key-1234")
    monkeypatch.setenv("MY_TITLE", "title-of-mine")
    seen: list[Any] = []

    async def handler(server: OddServer, http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        seen.append((http.path_qs, http.headers))
        return answer()

    with OddServer(handler) as server:
        url = f"{server.url}/openai/deployments/gpt?api-version=2024-10-21"
        ask({"url": url, "headers": {"X-Title": "MY_TITLE"}})
        ask({"url": server.url})
    assert seen[0][0] == "/v1/openai/deployments/gpt/chat/completions?api-version=2024-10-21"
    assert (seen[0][1]["api-key"], seen[0][1]["X-Title"]) == ("plain-key-1234", "title-of-mine")
    assert "Authorization" not in seen[0][1]
    assert seen[1][1]["Authorization"] == "Bearer plain-key-1234"
    with pytest.raises(BadInput, match=r"\$NOT_SET"):
        Credentials(OpenAISpec(model="m", headers={"X-Title": "NOT_SET"}))


@pytest.mark.parametrize("way", ["file", "command"])
def test_a_key_that_expires_is_read_again_and_one_that_is_wrong_ends_the_run(tmp_path: Path, way: str) -> None:
    place = tmp_path / "key"
    place.write_text("first\n")
    good = ["first"]

    async def handler(server: OddServer, http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if len(server.calls) == 3:
            good[:] = ["second"]
            place.write_text("second\n")
        ok = http.headers["Authorization"] == f"Bearer {good[0]}"
        return answer() if ok else refused(401, "token expired")

    key = {"key_file": str(place)} if way == "file" else {"key_command": f"cat {place}"}
    with OddServer(handler) as server:
        found = ask({"url": server.url, **key}, 5)
        assert [one.text for one in found if isinstance(one, Completion)] == ["4"] * 5
        assert len(server.calls) == 6
        good[:] = ["nobody knows"]
        (error,) = ask({"url": server.url, **key})
    assert isinstance(error, BadInput) and "answered 401: token expired" in str(error)
    assert ("cat " in str(error)) == (way == "command")
    with pytest.raises(BadInput, match="key_file"):
        Credentials(OpenAISpec(model="m", key_file=str(tmp_path / "none")))
    with pytest.raises(BadInput, match="key_command"):
        Credentials(OpenAISpec(model="m", key_command="exit 3"))


def test_a_key_that_was_good_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "FIRST_PAUSE", 0.01)
    place = tmp_path / "key"
    place.write_text("first")

    async def handler(server: OddServer, http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if len(server.calls) == 4:
            place.write_text("second")  # a while after the first one had expired
        good = "first" if len(server.calls) == 1 else "second"
        return answer() if http.headers["Authorization"] == f"Bearer {good}" else refused(401, "token expired")

    with OddServer(handler) as server:
        found = ask({"url": server.url, "key_file": str(place)}, 2)
        assert all(isinstance(one, Completion) for one in found) and len(server.calls) == 5
        place.write_text("nobody knows")
        (first,) = ask({"url": server.url, "key_file": str(place)})
    assert isinstance(first, BadInput)  # nobody ever took that one


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_on_the_same_host_keep_what_is_asked(status: int) -> None:
    async def handler(server: OddServer, http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if http.path.startswith("/v1"):
            return web.Response(status=status, headers={"Location": "/v2/chat/completions"})
        assert body["messages"]
        return answer()

    with OddServer(handler) as server:
        found = ask({"url": server.url}, 3)
        assert all(isinstance(one, Completion) for one in found)
        assert len(server.calls) == 4  # the place is remembered


def test_a_key_is_carried_to_no_other_host() -> None:
    async def handler(server: OddServer, http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": "http://elsewhere.invalid/v1"})

    with OddServer(handler) as server:
        (error,) = ask({"url": server.url})
    assert isinstance(error, BadInput) and "elsewhere.invalid" in str(error)
    here = URL("https://h/v1")
    assert str(moved(here, "/v2")) == "https://h/v2"
    assert str(moved(URL("http://h/v1"), "https://h/v1")) == "https://h/v1"
    with pytest.raises(BadInput):
        moved(here, "http://h/v1")  # no longer encrypted


def test_proxies_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert proxy_for(URL("https://api.example.invalid/v1")) is None
    monkeypatch.setenv("https_proxy", "proxy:3128")
    monkeypatch.setenv("all_proxy", "http://last:1")
    monkeypatch.setenv("no_proxy", ".local,10.0.0.7")
    assert proxy_for(URL("https://api.example.invalid/v1")) == "http://proxy:3128"
    assert proxy_for(URL("http://api.example.invalid/v1")) == "http://last:1"
    for host in ("node.local", "10.0.0.7", "127.0.0.1:8", "localhost", "[::1]"):
        assert proxy_for(URL(f"https://{host}/v1")) is None, host


def test_a_server_behind_a_proxy_is_asked_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(server: OddServer, http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return answer(http.host)

    with OddServer(handler) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        (found,) = ask({"url": "http://api.example.invalid/v1"})
    assert isinstance(found, Completion) and found.text == "api.example.invalid"


def piece(finish: str | None = None, **delta: str) -> bytes:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta, 'finish_reason': finish}]})}\n\n".encode()


def test_answers_in_pieces_are_whole_or_asked_again() -> None:
    async def handler(server: OddServer, http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        assert body["stream"] is True and body["stream_options"] == {"include_usage": True}
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        await response.write(b": processing\n\n" + piece(role="assistant") + piece(content="The an"))
        if len(server.calls) == 2:
            return response  # in the middle
        usage = b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}\n\n'
        await response.write(piece(content="swer") + piece("stop") + usage + b"data: [DONE]\n\n")
        return response

    with OddServer(handler) as server:
        first, second = ask({"url": server.url, "stream": True}, 2)
    assert isinstance(first, Completion) and isinstance(second, EngineError)
    assert (first.text, first.prompt_tokens, first.completion_tokens) == ("The answer", 7, 3)
    assert (second.transient, second.busy, second.served) == (True, True, True)


@pytest.mark.parametrize("begun", [True, False])
def test_an_error_in_a_stream_is_charged_once_an_answer_was_begun(begun: bool) -> None:
    async def handler(server: OddServer, http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        error = {"error": {"code": 503, "message": "the provider went away"}}
        await response.write((piece(content="The an") if begun else b"") + f"data: {json.dumps(error)}\n\n".encode())
        return response

    with OddServer(handler) as server:
        (error,) = ask({"url": server.url, "stream": True, "patience": 0.0})
    assert isinstance(error, EngineError) and "the provider went away" in str(error)
    assert (error.transient, error.served) == (True, begun)


def test_half_a_character_of_utf_8_is_replaced() -> None:
    async def handler(server: OddServer, http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        whole = json.dumps({"choices": [{"message": {"content": "4 X"}, "finish_reason": "stop"}]}).encode()
        return web.Response(body=b"\xef\xbb\xbf" + whole.replace(b"X", b"\xf0\x9f"), content_type="application/json")

    with OddServer(handler) as server:
        (found,) = ask({"url": server.url})
    assert isinstance(found, Completion) and found.text == "4 \N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", ["text/plain", "application/json", "application/octet-stream"])
def test_a_stream_by_another_name_is_one(kind: str, stream: bool, whole: bool) -> None:
    async def handler(server: OddServer, http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        end = piece("stop") + b"data: [DONE]" if whole else b""
        return web.Response(body=b": hello\n\n" + piece(content="The answer") + end, content_type=kind)

    with OddServer(handler) as server:
        (found,) = ask({"url": server.url, "stream": stream, "patience": 0.0})
    if whole:
        assert isinstance(found, Completion) and found.text == "The answer"
    else:
        assert isinstance(found, EngineError) and found.transient and found.served


def test_a_server_that_does_not_stream_is_understood_all_the_same() -> None:
    async def handler(server: OddServer, http: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return answer() if len(server.calls) == 1 else refused(400, "no streams here")

    with OddServer(handler) as server:
        first, second = ask({"url": server.url, "stream": True}, 2)
    assert isinstance(first, Completion) and "no streams here" in str(second)
