"""How nodes grow: where a step ends, where a text does, and what is asked again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from operators.engine import Completion, Request
from operators.strategies.episode import Episode
from operators.strategies.setting import Caps
from operators.strategies.steps import StepRule, grow
from operators.strategies.words import Ask, Node
from schemas.errors import BadInput
from tests.unit.strategies.playing import Wild, setting


class Says(Wild):
    """Says one thing after the other, each a text, a finish and maybe a count of tokens; keeps what it was asked."""

    def __init__(self, *said: tuple[Any, ...]) -> None:
        super().__init__()
        self.said, self.requests = list(said), list[Request]()

    async def generate(self, request: Request) -> list[Completion]:
        self.requests.append(request)
        found: list[Completion] = []
        for _ in range(request.n):
            text, finish, *tokens = self.said.pop(0)
            count = tokens[0] if tokens else len(text.split())
            stop = "\n\n" if finish == "stop_string" else None
            text += (stop or "") if request.params.keep_stop else ""
            found.append(Completion(text, finish, 1, count, sum_logprob=-1.0 * count, stop=stop))
        return found


def _grown(engine: Wild, nodes: list[Node], rule: StepRule, max_tokens: int = 24, **more: Any) -> list[list[Node]]:
    return asyncio.run(grow(Episode(setting(engine, max_tokens=max_tokens)), nodes, rule, **more))


@pytest.mark.parametrize(
    ("said", "text", "finish"),
    [
        (("a b", "stop_string"), "a b\n\n", ""),
        (("a b", "stop"), "a b", "stop"),
        (("a b", "length"), "a b", ""),
        (("a b", "cut"), "a b", "cut"),
        (("a b", "length", 24), "a b", "length"),
        (("a b", "stop_string", 24), "a b\n\n", "length"),
        (("", "length", 0), "", "length"),
        ((r"so \boxed{1}", "stop_string"), "so \\boxed{1}\n\n", "stop"),
        ((r"so \boxed{\frac{1}{2}} or so", "length"), r"so \boxed{\frac{1}{2}} or so", "stop"),
        ((r"so \boxed{1", "stop_string"), "so \\boxed{1\n\n", ""),
    ],
)
def test_a_step_ends_a_text_or_not(said: tuple[Any, ...], text: str, finish: str) -> None:
    [[child]] = _grown(Says(said), [Node()], StepRule())
    assert (child.text, child.ended, child.finish) == (text, bool(finish), finish)
    assert child.steps == 1 and child.parent is not None and child.lineage == 0


def test_an_end_must_lie_in_the_new_step_but_may_begin_before() -> None:
    rule = StepRule()
    [[first]] = _grown(Says(("b", "stop_string")), [Node(text="\\boxed{1}\n\n", steps=1)], rule)
    [[second]] = _grown(Says(("2}", "stop_string")), [Node(text="\\boxed{1", steps=1)], rule)
    assert first.finish == "" and second.finish == "stop"
    [[third]] = _grown(Says((r"\boxed{1}", "stop_string")), [Node()], StepRule(end=None))
    assert third.finish == ""


def test_the_last_step_runs_to_the_end() -> None:
    engine, rule = Says(("a", "length"), ("b", "stop")), StepRule(max_steps=3, step_tokens=4)
    [[early]] = _grown(engine, [Node(text="x", steps=1, tokens=2)], rule)
    [[late]] = _grown(engine, [Node(text="x", steps=2, tokens=2)], rule)
    first, last = [request.params for request in engine.requests]
    assert (first.stop, first.max_tokens) == (("\n\n",), 4) and (last.stop, last.max_tokens) == ((), 22)
    assert early.finish == "" and late.finish == "stop"
    [[cut]] = _grown(Says(("b", "length")), [Node(steps=2)], rule)
    assert cut.finish == "length" and cut.cut
    engine = Says(("a", "length"))
    [[whole]] = _grown(engine, [Node(steps=0)], rule, whole=True)
    assert engine.requests[0].params.stop == () and whole.finish == "length"


def test_a_request_always_allows_a_token() -> None:
    engine = Says(("a", "length"))
    [[child]] = _grown(engine, [Node(text="x", steps=1, tokens=30)], StepRule())
    assert engine.requests[0].params.max_tokens == 1 and child.finish == "length"


def test_an_empty_step_is_asked_for_again_at_a_path_of_its_own() -> None:
    engine = Says(("a", "stop_string"), (" ", "stop_string"), ("b", "stop_string"))
    [[first], [second]] = _grown(engine, [Node(), Node()], StepRule())
    assert [first.text, second.text] == ["a\n\n", "b\n\n"]
    assert [request.request_id for request in engine.requests] == ["k/0/0.0", "k/0/0.1", "k/0/0.1/r1"]
    assert len({request.seed for request in engine.requests}) == 3 and second.call == "0.1/r1"


def test_a_step_that_stays_empty_ends_the_text() -> None:
    engine = Says(*[("", "stop_string")] * 3)
    [[child]] = _grown(engine, [Node(text="x", steps=1)], StepRule(empties=3))
    assert child.finish == "stop" and len(engine.requests) == 3
    engine = Says(("", "stop_string"))
    [[child]] = _grown(engine, [Node()], StepRule(temperature=0.0))
    assert child.finish == "stop" and len(engine.requests) == 1  # greedy: the same again


def test_of_several_completions_of_a_call_the_empty_ones_are_repeated() -> None:
    engine = Says(("", "stop_string"), ("b", "stop_string"), ("", "stop_string"), ("c", "stop"), ("d", "stop"))
    [children] = _grown(engine, [Node()], StepRule(), times=3)
    assert [child.text for child in children] == ["c", "b\n\n", "d"]
    assert [child.call for child in children] == ["0.0/r1.0", "0.0:1", "0.0/r1.2"]
    assert [child.lineage for child in children] == [0, 1, 2]


def test_a_child_knows_its_way() -> None:
    engine = Says(("a b", "stop_string"), ("c", "stop"))
    episode = Episode(setting(engine))

    async def two() -> Node:
        [[child]] = await grow(episode, [Node()], StepRule())
        [[end]] = await grow(episode, [child], StepRule(keep_stop=False))
        return end

    end = asyncio.run(two())
    assert (end.text, end.tokens, end.steps, end.sum_logprob, end.step_logprob) == ("a b\n\nc", 3, 2, -3.0, -1.0)
    assert engine.requests[1].prefix == "a b\n\n" and engine.requests[1].request_id == "k/0/1.0"
    calls = {call.call: call for call in episode.setting.journal}  # type: ignore[attr-defined]
    assert calls["1.0"].parent_call == "0.0" and calls["1.0"].lead == ""


def test_the_same_is_not_asked_twice_at_temperature_0() -> None:
    with pytest.raises(BadInput, match=r"temperature 0.*sample\.temperature"):
        _grown(Says(("a", "stop"), ("a", "stop")), [Node(), Node()], StepRule(temperature=0.0))
    episode = Episode(setting(Says(("a", "stop"), ("b", "stop")), temperature=0.0))
    with pytest.raises(BadInput, match="temperature 0"):
        asyncio.run(episode.generate([Ask(n=2)]))
    assert len(asyncio.run(episode.generate([Ask(prefix="a"), Ask(prefix="b")]))) == 2


def test_a_cap_keeps_the_node_as_it_was() -> None:
    episode = Episode(setting(Says()), Caps(calls=0))
    [[child]] = asyncio.run(grow(episode, [Node(text="x", steps=1, score=0.5)], StepRule()))
    assert (child.text, child.finish, child.score, child.steps) == ("x", "cap", 0.5, 1)
