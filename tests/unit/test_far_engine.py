"""Engines of roles as those see them who ask: lists of calls, deaths, guilt, and calls that were never sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.engines.never_sent import NeverSent
from cluster.pools.turns import Turns
from cluster.working.far_engine import FarEngine
from cluster.working.reports import Ready
from cluster.working.serving import Asked, Measure
from operators.engine import CallLost, EngineDied, EngineError, EngineInfo, Scored, ScoreRequest
from schemas.errors import NodeLost, WorkerLost

READY = Ready(EngineInfo("m", "r", "scripted", 100, "none"), 4, 4, patience=7.0)


class Place:
    """An address that answers as it is told."""

    def __init__(self, name: str, dies: Callable[[list[Asked]], BaseException | None] = lambda _: None) -> None:
        self.name = name
        self.dies = dies
        self.lists: list[list[Asked]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def call(self, method: Callable[..., Any], *args: Any) -> Any:
        if method.__name__ == "hold":
            return 1
        calls: list[Asked] = args[0]
        self.lists.append(calls)
        await self.open.wait()
        if (error := self.dies(calls)) is not None:
            raise error
        return [3 if isinstance(one, Measure) else Scored(float(len(one.completion))) for one in calls]  # pyright: ignore


def far(*places: Place) -> FarEngine:
    made = FarEngine("scorer", 2)
    made.connect(places, READY)
    return made


def text(number: int) -> ScoreRequest:
    return ScoreRequest("p", "x" * number, request_id=f"k/0/{number}")


def do(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


def test_what_is_asked_together_goes_out_in_one_list_for_each_engine() -> None:
    async def work() -> None:
        first, second = Place("a"), Place("b")
        engine = far(first, second)
        assert (engine.capacity, engine.patience) == (8, 7.0)
        scores = await asyncio.gather(*(engine.score(text(number)) for number in range(6)))
        assert [one.score for one in scores] == list(range(6))
        assert [len(one) for one in (*first.lists, *second.lists)] == [3, 3]

    do(work())


@pytest.mark.parametrize("error", [WorkerLost("gone"), EngineDied("gone")])
def test_calls_that_were_with_a_dead_engine_are_asked_alone_and_the_guilty_one_no_more(error: Exception) -> None:
    async def work() -> None:
        def kills(calls: list[Asked]) -> BaseException | None:
            return error if text(2) in calls else None

        engine = far(Place("a", kills))
        lost = await asyncio.gather(*(engine.score(text(number)) for number in range(4)), return_exceptions=True)
        assert all(isinstance(one, CallLost) and one.transient and one.served for one in lost)
        engine.connect([Place("a", kills)], READY)  # what is sent there was sent before its death was known
        again = asyncio.gather(*(engine.score(text(number)) for number in range(4)), return_exceptions=True)
        await asyncio.sleep(0)
        assert not again.done()
        later = [Place(f"{number}", kills) for number in range(2)]
        engine.connect([later[0]], READY)
        while len(later[0].lists) < 3:
            await asyncio.sleep(0)
        engine.connect(later, READY)
        found = await again
        refused = found[2]
        assert isinstance(refused, EngineError) and not isinstance(refused, CallLost) and not refused.transient
        assert "k/0/2: two engines of role 'scorer' died over it" in str(refused)
        assert [one.score for one in found if isinstance(one, Scored)] == [0.0, 1.0, 3.0]
        assert all(len(calls) == 1 for place in later for calls in place.lists)
        with pytest.raises(EngineError, match="isn't asked again"):
            await engine.score(text(2))
        assert (await engine.score(text(0))).score == 0.0

    do(work())


def test_a_lost_node_is_no_calls_fault() -> None:
    async def work() -> None:
        engine = far(Place("a", lambda _: NodeLost("the node died")))
        with pytest.raises(CallLost):
            await engine.score(text(1))
        second = Place("b")
        engine.connect([second], READY)
        await asyncio.gather(engine.score(text(1)), engine.score(text(2)))
        assert [len(calls) for calls in second.lists] == [2]

    do(work())


def test_what_costs_nothing_outlives_a_death_and_what_was_never_sent_says_so() -> None:
    async def work() -> None:
        engine = far(Place("a", lambda _: WorkerLost("gone")))
        counting = asyncio.ensure_future(engine.most_tokens("some text"))
        with pytest.raises(CallLost):
            await engine.score(text(1))
        waiting = asyncio.ensure_future(engine.score(text(2)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(NeverSent):
            await waiting
        second = Place("b")
        engine.connect([second], READY)
        assert await counting == 3
        second.open.clear()
        sent = asyncio.ensure_future(engine.score(text(3)))
        while len(second.lists) < 2:
            await asyncio.sleep(0)
        sent.cancel()
        with pytest.raises(asyncio.CancelledError) as cut:
            await sent
        assert not isinstance(cut.value, NeverSent), "the engine has it"

    do(work())


def test_a_stage_with_two_names_takes_turns_with_all_who_use_one_of_them() -> None:
    class Stage:
        def __init__(self, *names: str) -> None:
            self.plan = SimpleNamespace(stage=SimpleNamespace(turns=frozenset(names)))

    states: list[Any] = [Stage("a"), Stage("b"), Stage("a", "b"), Stage("c"), Stage()]
    member: Any = SimpleNamespace(waiting=True, under_way=False)
    turns = Turns(1000.0)
    turns.add_all((state, member) for state in states)
    turns.go_on()
    assert [turns.awake(state) for state in states] == [True, False, False, True, True]
