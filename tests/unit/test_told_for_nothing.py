"""What an engine tells for nothing is asked again where it doesn't answer for a moment, whoever pays for the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from cluster.engines.scripted import ScriptedEngine
from cluster.records.timeline import Timeline
from cluster.working import desk as desks
from cluster.working.desk import TRIES, Desk, Meter
from cluster.working.tries import Tries
from operators.engine import EngineError, Request
from schemas.engine import SamplingParams, ScriptedSpec


class Absent(ScriptedEngine):
    """Doesn't answer the first few times it is asked for anything that costs nothing."""

    def __init__(self, faults: int, transient: bool = True) -> None:
        super().__init__(ScriptedSpec(answers=("one",)))
        self.faults, self.transient, self.drawn = faults, transient, 0

    def _may_fail(self) -> None:
        if self.faults:
            self.faults -= 1
            raise EngineError("Server disconnected", transient=self.transient)

    async def render(self, *args: Any, **named: Any) -> str:
        self._may_fail()
        return await super().render(*args, **named)

    async def count_tokens(self, prompt: str) -> int:
        self._may_fail()
        return await super().count_tokens(prompt)

    async def most_tokens(self, prompt: str) -> int:
        self._may_fail()
        return await super().most_tokens(prompt)

    async def generate(self, request: Request) -> Any:
        self.drawn += 1
        return await super().generate(request)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    def again(self: Tries, error: EngineError) -> float | None:
        return None if (pause := asked_again(self, error)) is None else 0.0 * pause

    asked_again = Tries.again
    monkeypatch.setattr(desks.Tries, "again", again)


ASKS: dict[str, Callable[[Desk], Any]] = {
    "render": lambda desk: desk.render([{"role": "user", "content": "hello"}]),
    "count_tokens": lambda desk: desk.count_tokens("hello"),
    "most_tokens": lambda desk: desk.most_tokens("hello"),
}


@pytest.mark.parametrize("retries", [None, 0, 3], ids=["paid elsewhere", "never", "tried again"])
@pytest.mark.parametrize("name", ASKS)
def test_an_engine_that_is_away_for_a_moment_is_asked_again(name: str, retries: int | None) -> None:
    here = asyncio.run(ASKS[name](Desk(Absent(0), Meter(Timeline("here"), None), retries)))
    assert asyncio.run(ASKS[name](Desk(Absent(TRIES), Meter(Timeline("here"), None), retries))) == here


@pytest.mark.parametrize("name", ASKS)
def test_one_that_stays_away_or_refuses_is_heard(name: str) -> None:
    away, refusing = Absent(TRIES + 1), Absent(1, transient=False)
    for engine in (away, refusing):
        with pytest.raises(EngineError, match="disconnected"):
            asyncio.run(ASKS[name](Desk(engine, Meter(Timeline("here"), None), None)))
    assert not refusing.faults


def test_an_answer_isnt_bought_again_because_its_prompt_could_not_be_measured() -> None:
    engine = Absent(3)
    desk = Desk(engine, Meter(Timeline("here"), None), 3)
    # no letter, and yet a token or more (the scripted engine's count): so it is measured after the answer
    [answer] = asyncio.run(desk.generate(Request("", SamplingParams(max_tokens=4), seed=1, prefix="and so on ")))
    assert (answer.text, engine.drawn, engine.faults) == ("one", 1, 0)
