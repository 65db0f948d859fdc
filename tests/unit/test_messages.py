"""Conversations in one form: the shapes people have, what is refused, and identities that stay."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from schemas.contract import polars_schema, validate
from schemas.conversation import has_more, plain_turns, spoken, turns_dtype
from schemas.datasets import Problem, Sft
from schemas.identity import problem_keys, table_digest
from schemas.messages import NotATurn, conversations, conversations_of, tools_of, turn_of, turns_of


def call(arguments: Any, **more: Any) -> dict[str, Any]:
    return {**more, "type": "function", "function": {"name": "weather", "arguments": arguments}}


CALL = call({"city": "Paris"}, id="c1")
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
PLAIN = [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A."}]


@pytest.mark.parametrize(
    ("message", "spoken_as"),
    [
        ({"role": "user", "content": "hi"}, {"role": "user", "content": "hi"}),
        ({"from": "human", "value": "hi"}, {"role": "user", "content": "hi"}),
        ({"from": "gpt", "value": "hi", "weight": 0}, {"role": "assistant", "content": "hi"}),
        ({"role": "model", "parts": [{"text": "hi"}]}, {"role": "assistant", "content": "hi"}),
        ({"role": "user", "content": [{"type": "text", "text": "hi"}]}, {"role": "user", "content": "hi"}),
        (
            {"role": "user", "content": ["hi", IMAGE]},
            {"role": "user", "content": [{"type": "text", "text": "hi"}, IMAGE]},
        ),
        ({"role": "user", "name": "ann", "content": "hi"}, {"role": "user", "content": "hi", "name": "ann"}),
        (
            {"role": "assistant", "content": None, "tool_calls": [call('{"city": "Paris"}', id="c1")]},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
        ),
        (
            {"role": "assistant", "tool_calls": [{"name": "weather", "arguments": {"city": "Paris"}}]},
            {"role": "assistant", "content": "", "tool_calls": [call({"city": "Paris"})]},
        ),
        (
            {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Paris"}}'},
            {"role": "assistant", "content": "", "tool_calls": [call({"city": "Paris"})]},
        ),
        (
            {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "no json"}},
            {"role": "assistant", "content": "", "tool_calls": [call("no json")]},
        ),
        ({"role": "tool", "tool_call_id": 1, "content": "12"}, {"role": "tool", "content": "12", "tool_call_id": "1"}),
        ({"role": "function", "name": "f", "content": 12}, {"role": "tool", "content": "12", "name": "f"}),
        (
            {"role": "assistant", "content": "A.", "reasoning_content": " hm \n"},
            {"role": "assistant", "content": "<think>\nhm\n</think>\n\nA."},
        ),
    ],
)
def test_shapes_of_a_turn(message: dict[str, Any], spoken_as: dict[str, Any]) -> None:
    turn = turn_of(message)
    assert spoken([turn]) == [spoken_as]
    assert turn_of(turn) == turn, "a stored turn is read as what it is"
    assert turn_of(spoken_as) == turn
    assert conversations(pl.Series([[turn], None], dtype=turns_dtype())).to_list() == [[turn], None]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([{"content": "hi"}], "turn 1 has no role"),
        ([{"role": "user", "content": "hi"}, {"role": "user"}], "turn 2 has no content"),
        ([{"role": "user", "content": {"text": "hi"}}], "neither text nor a list of parts"),
        ([{"role": "user", "content": [{"type": "image"}]}], "give a reference"),
        ([{"role": "user", "content": [{"type": "image", "image": {"bytes": b"x", "path": "a.png"}}]}], "bytes"),
        ([{"role": "user", "content": [{"type": "text"}]}], "without a text"),
        ([{"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}], "without a function's name"),
        ([{"role": "assistant", "content": "", "tool_calls": "call it"}], "no JSON"),
        (["hi"], "is a list of texts: a problem is asked once"),
        ([7], "turn 1 must be an object"),
        ({"text": "hi"}, "is an object without a role"),
        ("What is 1 + 1?", "neither a list of turns nor the JSON of one"),
        (7, "no list of turns"),
    ],
)
def test_what_is_no_turn_is_refused_in_words(value: Any, words: str) -> None:
    with pytest.raises(NotATurn, match=words):
        turns_of(value)


def test_texts_of_json_and_of_python_are_conversations_and_errors_tell_the_row() -> None:
    found = conversations(pl.Series([json.dumps(PLAIN), str(PLAIN), None]))
    assert [spoken(turns) for turns in found.to_list()] == [PLAIN, PLAIN, []]
    with pytest.raises(NotATurn) as refused:
        conversations_of([PLAIN, None, [{"role": "user"}]])
    assert refused.value.row == 2


def test_what_other_rows_have_is_not_this_ones() -> None:
    calls = [{"role": "assistant", "content": "", "tool_calls": [call(given)]} for given in ({"a": 1}, {"b": None})]
    table = conversations(pl.Series([[call] for call in calls]))
    assert [json.loads(turns[0]["tool_calls"])[0]["function"]["arguments"] for turns in table.to_list()] == [
        {"a": 1},
        {},
    ]
    alone = turns_of([calls[1]])
    assert conversations(pl.Series([alone], dtype=turns_dtype())).to_list() == [alone], (
        "stored calls are JSON, not padded"
    )
    assert json.loads(alone[0]["tool_calls"])[0]["function"]["arguments"] == {"b": None}


def test_plain_columns_stay_in_polars_and_empty_ones_stay_empty() -> None:
    column = pl.Series("m", [PLAIN, [], None])
    found = conversations(column)
    assert found.dtype == turns_dtype() and found.name == "m"
    assert [None if turns is None else spoken(turns) for turns in found.to_list()] == [PLAIN, [], None]
    assert not has_more(found)
    assert found.to_frame().select(plain_turns("m")).to_series().dtype == column.dtype


def test_tools_are_told_from_other_columns() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    for value in ([tool], json.dumps([tool]), [tool["function"]], [json.dumps(tool)]):
        assert json.loads(tools_of(value) or "") == [tool]
    for value in ("calculator", ["calculator"], [], None, 3, [{"type": "function"}]):
        assert tools_of(value) is None


def problems(messages: Any, **more: Any) -> pl.DataFrame:
    row = {
        "problem_key": "k",
        "problem_id": "p",
        "prompt": "Q?",
        "messages": turns_of(messages),
        "answer": "1",
        "task_type": "math",
        **more,
    }
    return pl.DataFrame([row], schema=polars_schema(Problem))


def test_keys_and_views_of_plain_conversations_are_what_they_were() -> None:
    """The values are those of version 1, where a turn was its role and its content."""
    plain = problems(PLAIN)
    assert problem_keys(plain).to_list() == ["6a8aa6be70dcdec17e55adbd7083fae5"]
    turns = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
    before = plain.drop("tools").with_columns(messages=pl.Series([PLAIN], dtype=turns))
    assert table_digest(plain) == table_digest(before) == "5d7696f022871190cc65f3b400f704df"


def test_what_differs_in_calls_names_parts_or_tools_alone_is_another_problem() -> None:
    asked = {"role": "user", "content": "Q?"}
    variants = [
        problems([asked]),
        problems([{**asked, "name": "ann"}]),
        problems([asked, {"role": "assistant", "content": "", "tool_calls": [CALL]}]),
        problems([asked, {"role": "assistant", "content": "", "tool_calls": [{**CALL, "id": "c2"}]}]),
        problems([asked, {"role": "assistant", "content": ""}]),
        problems([{"role": "user", "content": ["Q?", IMAGE]}]),
        problems([asked], tools='[{"type": "function", "function": {"name": "f"}}]'),
    ]
    assert len({problem_keys(table)[0] for table in variants}) == len(variants)
    assert len({table_digest(table) for table in variants}) == len(variants)


def test_an_operator_may_write_plain_turns() -> None:
    row = {
        "problem_key": "k", "sample_index": 0, "problem_id": "p", "messages": PLAIN, "completion_tokens": 1,
        "score": 1, "lineage": "{}",
    }  # fmt: skip
    table = validate(pl.DataFrame([row]), Sft, "mine")
    assert spoken(table["messages"][0].to_list()) == PLAIN and table["tools"].to_list() == [None]


@pytest.mark.parametrize("name", ["arguments", "args", "parameters", "input"])
def test_what_a_call_is_given_is_kept_whatever_it_is_called(name: str) -> None:
    turn = turn_of({"role": "assistant", "content": None, "tool_calls": [{"name": "w", name: {"x": 1}}]})
    assert json.loads(turn["tool_calls"] or "")[0]["function"]["arguments"] == {"x": 1}
