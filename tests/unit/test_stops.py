"""What ended a text: engines tell stop strings, or don't, and are asked whether they do."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from cluster.engines.scripted import ScriptedEngine
from cluster.records.timeline import Timeline
from cluster.working.desk import Desk, Meter
from operators.engine import Completion, EngineError, Request, ended_by
from schemas.engine import SamplingParams, ScriptedSpec
from schemas.errors import BadInput
from tests.unit.test_openai_engine import answer, ask, failed, only, request

TWO = SamplingParams(stop=("\n\n", "END"))


def desk(**spec: object) -> Desk:
    engine = ScriptedEngine(ScriptedSpec.model_validate({"answers": ("one END two",), **spec}))
    return Desk(engine, Meter(Timeline("here"), None), 0)


def test_a_text_ends_with_its_stop_string_where_that_is_wanted() -> None:
    ended = Completion("one", "stop_string", 3, 1, stop="END")
    assert ended_by(ended, TWO) == ended
    assert ended_by(ended, TWO.model_copy(update={"keep_stop": True})).text == "oneEND"
    for reason in ("stop", "length", "cut"):
        other = Completion("one", reason, 3, 1)
        assert ended_by(other, TWO.model_copy(update={"keep_stop": True})) == other


def test_of_one_stop_string_it_is_known_which_of_two_it_may_not_be() -> None:
    untold = Completion("one", "stop_string", 3, 1)
    assert ended_by(untold, SamplingParams(stop=("END",))).stop == "END"
    assert ended_by(untold, TWO).stop is None
    with pytest.raises(EngineError, match="which of"):
        ended_by(untold, TWO.model_copy(update={"keep_stop": True}))


def test_the_scripted_engine_tells_which_string_ended_its_text() -> None:
    [told] = asyncio.run(desk().generate(Request("q", TWO, 0)))
    assert (told.text, told.finish_reason, told.stop) == ("one ", "stop_string", "END")
    [kept] = asyncio.run(desk().generate(Request("q", TWO.model_copy(update={"keep_stop": True}), 0)))
    assert (kept.text, kept.stop) == ("one END", "END")


@pytest.mark.parametrize(("told", "answers"), [(True, ("42",)), (False, ("the sea is deep",)), (False, ("",))])
def test_a_desk_knows_or_asks_once_whether_stops_are_told(told: bool, answers: tuple[str, ...]) -> None:
    asked = desk(told_stops=told, answers=answers)

    async def ask_twice() -> list[bool]:
        return [await asked.tells_stops(), await asked.tells_stops()]

    assert asyncio.run(ask_twice()) == [told, told]
    assert asked._meter.bill.calls == (0 if told else 1)  # pyright: ignore[reportPrivateUsage]


def test_keep_stop_is_refused_where_nobody_tells_what_ended_a_text() -> None:
    with pytest.raises(BadInput, match="doesn't tell a stop string"):
        asyncio.run(desk(told_stops=False).generate(Request("q", TWO.model_copy(update={"keep_stop": True}), 0)))


@pytest.mark.parametrize(
    ("choice", "finish", "stop"),
    [
        ({"finish_reason": "stop", "stop_reason": "END"}, "stop_string", "END"),  # vLLM
        ({"finish_reason": "stop", "matched_stop": "\n\n"}, "stop_string", "\n\n"),  # SGLang
        ({"finish_reason": "stop", "matched_stop": 128009}, "stop", None),  # its end token
        ({"finish_reason": "stop", "stop_reason": "end_turn"}, "stop", None),  # a gateway's word
        ({"finish_reason": "stop", "stop_reason": "stop_sequence", "stop_sequence": "END"}, "stop_string", "END"),
        ({"finish_reason": "stop", "native_finish_reason": "stop_sequence"}, "stop_string", None),
        ({"finish_reason": "stop_sequence"}, "stop_string", None),  # text-generation-inference
        ({"finish_reason": "stop", "stop_reason": None}, "stop", None),  # OpenAI tells nothing
    ],
)
def test_servers_tell_stops_in_their_own_fields(choice: dict[str, object], finish: str, stop: str | None) -> None:
    async def handler(http: web.Request) -> web.Response:
        return answer("one", **choice)

    [found] = only(ask(handler, request(stop=TWO.stop)))
    assert (found.text, found.finish_reason, found.stop) == ("one", finish, stop)


def test_a_server_appends_nothing_so_the_worker_does() -> None:
    async def handler(http: web.Request) -> web.Response:
        assert "keep_stop" not in await http.json()
        return answer("one", stop_reason="END")

    [found] = only(ask(handler, request(stop=TWO.stop, keep_stop=True)))
    assert (found.text, found.stop) == ("oneEND", "END")

    async def says_not_which(http: web.Request) -> web.Response:
        return answer("one", finish_reason="stop_sequence")

    assert "which of" in str(failed(ask(says_not_which, request(stop=TWO.stop, keep_stop=True))))
