"""What the model reads besides the question: system turns, earlier questions, tools, and calls of other APIs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from operators.load import Load
from operators.load.checks import Notes
from schemas.conversation import spoken
from schemas.errors import BadInput
from schemas.messages import tools_of, turns_of

Row = dict[str, Any]
Q, A = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
FUNCTION = {"name": "weather", "description": "d", "parameters": {"type": "object"}}


def load(path: Path, rows: list[Row], **settings: Any) -> tuple[list[Row], str]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    notes = Notes()
    problems = Load(source=str(path), **settings).read(notes).to_dicts()
    return problems, "\n".join(notes.sentences())


def said(problem: Row) -> list[tuple[str, str]] | None:
    return None if problem["messages"] is None else [(t["role"], t["content"]) for t in problem["messages"]]


EARLIER = [("user", "a"), ("assistant", "b")]


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        ({"instruction": "Q", "input": "", "system": "S"}, [("system", "S"), ("user", "Q")]),
        ({"instruction": "Q", "input": "I", "history": [["a", "b"]]}, [*EARLIER, ("user", "Q\n\nI")]),
        ({"question": "Q", "system_prompt": "S", "history": [["a", "b"]]}, [("system", "S"), *EARLIER, ("user", "Q")]),
        ({"question": "Q", "history": json.dumps([["a", "b"]])}, [*EARLIER, ("user", "Q")]),
        (
            {"question": "Q", "history": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            [*EARLIER, ("user", "Q")],
        ),
        ({"conversations": [{"from": "human", "value": "Q"}], "system": "S"}, [("system", "S"), ("user", "Q")]),
        ({"messages": [{"role": "system", "content": "S"}, Q, A], "system": "S"}, [("system", "S"), ("user", "Q")]),
        ({"problem": "Q", "messages": [Q, A], "system": "S"}, [("system", "S"), ("user", "Q")]),
        ({"question": "Q", "system": [{"type": "text", "text": "S"}]}, [("system", "S"), ("user", "Q")]),
        ({"question": "Q", "system": "", "history": []}, None),
        ({"question": "Q", "system": None, "history": ""}, None),
        ({"question": "Q", "system": "S", "choices": ["x", "y"]}, [("system", "S"), ("user", "Q\n\nA. x\nB. y")]),
    ],
)
def test_what_is_said_before_a_question_is_read_by_the_model(tmp_path: Path, row: Row, turns: Any) -> None:
    [problem], told = load(tmp_path / "p.jsonl", [{**row, "answer": None}])
    assert said(problem) == turns
    assert json.loads(problem["metadata"] or "{}").keys() <= {"cut_turns", "choices"}
    assert "what comes before from" in told


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": "Q", "history": "long ago"}, "row 2: 'history' must be a list of turns .*it is no list.*null}"),
        ({"question": "Q", "history": [["a"]]}, "row 2: 'history' .*no pair of texts"),
        ({"messages": [{"role": "system", "content": "T"}, Q], "system": "S"}, "row 2: 'system' and the system turn"),
        ({"question": "Q", "system": {"S": 1}}, "row 2: 'system' must be a text, or a list of texts.*system: null}"),
    ],
)
def test_what_cannot_be_said_before_is_refused_with_its_row(tmp_path: Path, row: Row, words: str) -> None:
    plain = {name: {"question": "R", "messages": [Q]}.get(name) for name in row}
    with pytest.raises(BadInput, match=words):
        load(tmp_path / "p.jsonl", [plain, row])
    [problem], _ = load(tmp_path / "p.jsonl", [row], columns={"system": None, "history": None})
    assert said(problem) in (None, [("system", "T"), ("user", "Q")])


def test_options_stand_in_the_turn_that_asks(tmp_path: Path) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    rows: list[Row] = [
        {"prompt": [{"role": "system", "content": "S"}, Q], "choices": ["x", "y"], "answer": "B"},
        {"prompt": [{"role": "user", "content": [image, {"type": "text", "text": "Q"}]}], "choices": ["x", "y"]},
    ]
    problems, _ = load(tmp_path / "p.jsonl", rows)
    assert said(problems[0]) == [("system", "S"), ("user", "Q\n\nA. x\nB. y")]
    [turn] = spoken(problems[1]["messages"])
    assert [part.get("text") for part in turn["content"]] == [None, "Q", "A. x\nB. y"]


def test_some_rows_have_a_prompt_and_others_a_conversation(tmp_path: Path) -> None:
    apart = [{"prompt": "P", "answer": "1"}, {"messages": [Q], "answer": "2"}]
    together: list[Row] = [{"prompt": "P", "answer": "1"}, {"prompt": [Q], "answer": "2"}]
    for rows in (apart, together):
        problems, _ = load(tmp_path / "p.jsonl", rows)
        assert [(row["prompt"], said(row)) for row in problems] == [("P", None), ("Q", [("user", "Q")])]


@pytest.mark.parametrize("name", ["question", "prompt", "turns"])
def test_a_list_of_one_question_is_that_and_of_several_is_refused(tmp_path: Path, name: str) -> None:
    problems, _ = load(tmp_path / "p.jsonl", [{name: ["Q?"]}, {name: ["R?"]}])
    assert [row["prompt"] for row in problems] == ["Q?", "R?"]
    with pytest.raises(BadInput, match=rf"row 2: '{name}' holds 2 questions, .*Write a row for each"):
        load(tmp_path / "p.jsonl", [{name: ["Q?"]}, {name: ["R?", "S?"]}])


@pytest.mark.parametrize("name", ["functions", "function", "tools"])
@pytest.mark.parametrize("written", [[FUNCTION], json.dumps([FUNCTION]), [{"type": "function", "function": FUNCTION}]])
def test_functions_are_tools(tmp_path: Path, name: str, written: Any) -> None:
    rows: list[Row] = [{"messages": [Q], name: written}, {"messages": [{**Q, "content": "R"}], name: "[]"}]
    problems, told = load(tmp_path / "p.jsonl", rows)
    assert [json.loads(row["tools"] or "null") for row in problems] == [
        [{"type": "function", "function": FUNCTION}],
        None,
    ]
    assert "describe no functions" not in told


def test_columns_that_describe_no_tools_ride_along_and_it_is_told(tmp_path: Path) -> None:
    rows: list[Row] = [{"messages": [Q], "tools": [FUNCTION]}, {"question": "R", "tools": ["hammer"]}]
    problems, told = load(tmp_path / "p.jsonl", rows)
    assert [row["tools"] for row in problems] == [None, None]
    assert json.loads(problems[1]["metadata"]) == {"tools": ["hammer"]}
    assert "1 row whose 'tools' describe no functions" in told and "(row 2)" in told
    [problem], told = load(tmp_path / "p.jsonl", [{"messages": [Q], "tools": ["hammer"]}])  # (no plain column at all)
    assert problem["tools"] is None and "(row 1)" in told


def test_old_calls_have_ids_that_their_answers_name() -> None:
    call = {"name": "weather", "arguments": '{"city": "Rom"}'}
    old = [
        Q,
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "weather", "content": "12"},
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "weather", "content": "13"},
    ]
    turns = spoken(turns_of(old))
    ids = [turn["tool_calls"][0]["id"] for turn in turns if turn.get("tool_calls")]
    assert len({*ids}) == 2 and all(len(one) == 9 and one.isalnum() for one in ids)
    assert [turn["tool_call_id"] for turn in turns if turn["role"] == "tool"] == ids
    assert turns_of(turns_of(old)) == turns_of(old) and spoken(turns_of(turns)) == turns
    shared = [
        {"from": "human", "value": "Q"},
        {"from": "function_call", "value": json.dumps({"name": "weather", "arguments": {"city": "Rom"}})},
        {"from": "observation", "value": "12"},
    ]
    assert [turn.get("tool_call_id") for turn in spoken(turns_of(shared))] == [None, None, ids[0]]


def test_anthropics_parts_are_calls_results_and_thoughts() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    linked = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    messages = [
        {"role": "user", "content": [image, linked, {"type": "text", "text": "w?"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "x"},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Rom"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "12"}]},
                {"type": "text", "text": "And now?"},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "13"}]},
    ]
    call = {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Rom"}}}
    urls = [f"data:image/png;base64,{image['source']['data']}", "https://example.org/a.png"]  # pyright: ignore
    assert spoken(turns_of(messages)) == [
        {
            "role": "user",
            "content": [
                *({"type": "image_url", "image_url": {"url": url}} for url in urls),
                {"type": "text", "text": "w?"},
            ],
        },
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nLet me see.", "tool_calls": [call]},
        {"role": "tool", "content": "12", "tool_call_id": "t1"},
        {"role": "user", "content": "And now?"},
        {"role": "tool", "content": "13", "tool_call_id": "t1"},
    ]
    schema = {"type": "object", "properties": {}}
    tool = {"name": "weather", "description": "d", "input_schema": schema}
    described = {"name": "weather", "description": "d", "parameters": schema}
    assert json.loads(tools_of([tool]) or "") == [{"type": "function", "function": described}]


def test_a_folder_of_conversations_alone(tmp_path: Path) -> None:
    for name in ("1", "2"):
        lines = [json.dumps({"messages": [{**Q, "content": f"{name}{letter}"}]}) for letter in "ab"]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    assert Load(source=str(tmp_path)).run()["prompt"].to_list() == ["1a", "1b", "2a", "2b"]
