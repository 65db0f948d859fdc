"""Tools: calls and programs, names that last, what is wrong and is told to the model, episodes that go on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from cluster.sandbox.pool import SandboxPool
from cluster.tools.processes import shared_workers
from operators.engine import Completion, Request
from operators.sandbox import Limits
from operators.strategies.calls import MemoryJournal
from operators.strategies.tools import Tools
from operators.synthesize.sft import SynthesizeSft
from schemas.contract import polars_schema, validate
from schemas.conversation import described
from schemas.datasets import Problem, Sample, Sft, Verdict
from tests.unit.strategies.playing import Wild, played, setting


def search(word: str, most: int = 3) -> list[str]:
    """Look a word up."""
    if word == "hang":
        time.sleep(3600)
    return [f"{word} {place}" for place in range(most)]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxPool]:
    with SandboxPool(1) as pool:
        yield pool


class Says(Wild):
    """Says one turn after the other: texts, or calls as an engine tells them apart."""

    def __init__(self, *said: str | list[dict[str, Any]]) -> None:
        super().__init__()
        self.said, self.requests = list(said), list[Request]()

    async def generate(self, request: Request) -> list[Completion]:
        self.requests.append(request)
        said = self.said.pop(0)
        if isinstance(said, str):
            fenced = "\n```\n" in said and bool(request.params.stop)
            text = said.partition("\n```\n")[0] + "\n```\n" if fenced else said
            finish = "stop_string" if fenced else "stop"
            return [Completion(text, finish, 5, 3, stop="\n```\n" if fenced else None)]
        calls = [{"id": f"c{at}", "type": "function", "function": one} for at, one in enumerate(said)]
        return [Completion("", "stop", 5, 3, tool_calls=json.dumps(calls))]


def python(code: str) -> dict[str, Any]:
    return {"name": "python", "arguments": {"code": code}}


def row(engine: Wild, strategy: Tools, sandbox: SandboxPool, journal: MemoryJournal | None = None) -> dict[str, Any]:
    given = {"sandbox": sandbox, "workers": shared_workers()}
    turns = ({"role": "user", "content": "Q"},)
    about = replace(setting(engine), tools=given, turns=turns, journal=journal or MemoryJournal())
    [found] = played(strategy, about)
    return found


def told(found: dict[str, Any]) -> list[str]:
    return [turn["content"] for turn in found["turns"] if turn["role"] == "tool"]


def test_programs_share_their_names_and_their_output_is_read_once(sandbox: SandboxPool) -> None:
    engine = Says([python("print('loud')\nx = 6")], [python("x * 7")], "So \\boxed{42}")
    found = row(engine, Tools(), sandbox)
    assert told(found) == ["loud", "42"] and found["completion"] == "So \\boxed{42}"
    assert [turn["role"] for turn in found["turns"]] == ["assistant", "tool", "assistant", "tool", "assistant"]
    [call] = json.loads(found["turns"][0]["tool_calls"])
    assert call["function"]["arguments"] == {"code": "print('loud')\nx = 6"}
    assert found["turns"][1]["tool_call_id"] == call["id"] and found["turns"][1]["name"] == "python"
    assert found["completion_tokens"] == 9
    assert "42" in engine.requests[2].prompt
    facts = json.loads(found["episode_facts"])
    assert facts["note"] == {"tool_calls": 2, "tool_rounds": 2} and facts["calls"] == 3


def test_a_fenced_program_is_run(sandbox: SandboxPool) -> None:
    engine = Says("Let me count.\n```python\nsum(range(10))\n```\nI guess 44", "It is \\boxed{45}.")
    found = row(engine, Tools(style="programs", answers_as="user"), sandbox)
    assert [turn["content"] for turn in found["turns"]] == [
        "Let me count.\n```python\nsum(range(10))\n```",
        "45",
        "It is \\boxed{45}.",
    ]
    assert found["turns"][1]["role"] == "user" and engine.requests[0].params.stop == ("\n```\n",)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("1/0", "ZeroDivisionError"),
        ("import os\nos.system('true')\nwhile True: pass", "error: "),
        ("print('x' * 10**6)", "characters are left out"),
        ("import os\nwhile True: os.fork()", "rror"),
        ("x = [0] * 10**10", "MemoryError"),
        ("import socket\nsocket.create_connection(('1.1.1.1', 80), 1)", "Error"),
        ("open('/etc/shadow').read()", "Error"),
        ("def f(:", "SyntaxError"),
        ("exit(3)", ""),
        ("x = 1", ""),
    ],
)
def test_a_program_costs_itself_alone(sandbox: SandboxPool, code: str, said: str) -> None:
    endless = "while True" in code
    tool = {"kind": "python", "limits": Limits(seconds=2.0 if endless else 60.0).model_dump(), "output": 400}
    found = row(Says([python(code)], [python("40 + 2")], "done"), Tools(offers=(tool,)), sandbox)  # type: ignore[arg-type]
    first, second = told(found)
    assert said in first and len(first) < 800
    assert second == "42" or endless, "names and time are those of all programs together"


def test_functions_of_ones_own(sandbox: SandboxPool) -> None:
    target = {"kind": "function", "target": "tests.unit.strategies.test_tools:search", "seconds": 12.0}
    calls = [
        {"name": "search", "arguments": '{"word": "a", "most": 2}'},
        {"name": "search", "arguments": {"words": "a"}},
        {"name": "search", "arguments": {"word": "hang"}},
        {"name": "look", "arguments": {}},
        {"name": "search", "arguments": "no JSON"},
    ]
    found = row(Says(calls, "done"), Tools(offers=(target,)), sandbox)  # type: ignore[arg-type]
    first, wrong, slow, unknown, broken = told(found)
    assert first == '["a 0","a 1"]' and "words" in wrong and "longer than 12 s" in slow
    assert unknown == "error: there is no tool 'look'; there are search" and "aren't a JSON object" in broken


def test_calls_in_tags_and_calls_beyond_what_is_allowed(sandbox: SandboxPool) -> None:
    tagged = f"Hm. <tool_call>\n{json.dumps(python('1 + 1'))}\n</tool_call>"
    broken = "<tool_call>{not json}</tool_call>"
    found = row(Says(tagged, broken, tagged, tagged), Tools(rounds=3, uses=2), sandbox)
    first, second, third = told(found)
    assert first == "2" and "isn't a JSON object" in second and third.startswith("error: no more calls")
    assert found["completion"] == tagged, "after the last round what it says is the answer"
    turns = [turn for turn in found["turns"] if turn["role"] == "assistant"]
    assert [turn["content"] for turn in turns] == ["Hm.", "", "Hm.", tagged], "a call isn't shown twice"


def test_an_episode_that_goes_on_runs_only_what_has_no_answer(sandbox: SandboxPool) -> None:
    said: Sequence[Any] = [[python("x = 20")], [python("x + 22")], "done"]
    whole = MemoryJournal()
    complete = row(Says(*said), Tools(), sandbox, whole)
    calls = list(whole)
    for cut in range(len(calls)):
        engine = Says(*said[sum(call.kind == "generate" for call in calls[:cut]) :])
        again = row(engine, Tools(), sandbox, MemoryJournal(calls[:cut]))
        assert again == complete


def trained(found: dict[str, Any]) -> pl.DataFrame:
    """Return what a sample becomes as a training row."""
    samples = validate(pl.DataFrame([found], schema=polars_schema(Sample)), Sample, "test")
    problem = {"problem_key": "k", "problem_id": "p", "prompt": "Q"}
    problems = pl.DataFrame([problem], schema=polars_schema(Problem))
    verdict = {"problem_key": "k", "sample_index": 0, "verifier": "v", "is_correct": True, "status": "ok"}
    verdicts = pl.DataFrame([verdict | {"credit": 1.0}], schema=polars_schema(Verdict))
    operator = SynthesizeSft()
    tables = {"problems": problems, "samples": samples, "verdicts": verdicts}
    return validate(
        operator.run(**{name: tables[name].select(operator.inputs[name].names) for name in tables}), Sft, "test"
    )


def test_training_rows_have_the_whole_conversation(sandbox: SandboxPool) -> None:
    rows = trained(row(Says([python("6 * 7")], "\\boxed{42}"), Tools(), sandbox))
    [messages], [tools] = rows["messages"].to_list(), rows["tools"].to_list()
    assert described(tools) == Tools().offered, "what the model was told of its tools"
    assert [turn["role"] for turn in messages] == ["user", "assistant", "tool", "assistant"]
    assert json.loads(messages[1]["tool_calls"])[0]["function"]["name"] == "python" and messages[2]["content"] == "42"


def test_training_rows_have_the_programs_that_were_run(sandbox: SandboxPool) -> None:
    said = ("```python\nprint(6 * 7)\n```\n", "\\boxed{42}")
    rows = trained(row(Says(*said), Tools(style="programs", answers_as="user"), sandbox))
    [messages], [tools] = rows["messages"].to_list(), rows["tools"].to_list()
    assert [turn["role"] for turn in messages] == ["user", "assistant", "user", "assistant"] and tools is None
    assert "print(6 * 7)" in messages[1]["content"] and messages[2]["content"] == "42"
    assert messages[2]["name"] is None and messages[2]["tool_call_id"] is None, "a template may have no place for them"
