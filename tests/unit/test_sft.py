"""Training rows from verified samples."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from operators.synthesize.sft import SynthesizeSft
from schemas.contract import conform, validate
from schemas.conversation import spoken
from schemas.datasets import Sft

PROBLEMS = pl.DataFrame(
    {
        "problem_id": ["p0", "p1"],
        "prompt": ['What is 3 + 4? <b> "quoted"', "unused"],
        "messages": [None, [{"role": "system", "content": "own"}, {"role": "user", "content": "turn"}]],
    },
    schema_overrides={"messages": pl.List(pl.Struct({"role": pl.String, "content": pl.String}))},
)


def samples(*rows: dict[str, Any]) -> pl.DataFrame:
    standard = {
        "problem_id": "p0",
        "completion": "7",
        "reasoning": None,
        "finish_reason": "stop",
        "completion_tokens": 5,
        "run_id": "r1",
        "status": "ok",
        "is_correct": True,
        "credit": 1.0,
        "verdict_status": "ok",
    }
    whole = [{**standard, "sample_index": index, **row} for index, row in enumerate(rows)]
    return pl.DataFrame(
        whole, schema_overrides={"reasoning": pl.String, "is_correct": pl.Boolean, "credit": pl.Float64}
    )


def made(table: pl.DataFrame, paths: pl.DataFrame | None = None, **fields: Any) -> pl.DataFrame:
    operator = SynthesizeSft(**fields)
    inputs = {
        "problems": PROBLEMS,
        "samples": table.drop("is_correct", "credit", "verdict_status"),
        "verdicts": table.select("problem_id", "sample_index", "is_correct", "credit", status="verdict_status"),
        **({} if paths is None else {"paths": paths}),
    }
    ready = {name: conform(inputs[name], columns, name) for name, columns in operator.inputs.items() if name in inputs}
    return validate(operator.run(**ready), Sft, "test")


def test_keeps_only_right_finished_distinct_samples() -> None:
    table = samples(
        {"completion": "a"},
        {"completion": "a"},
        {"completion": "b", "is_correct": False},
        {"completion": "c", "finish_reason": "length"},
        {"completion": "d", "status": "error"},
        {"completion": "e", "is_correct": None},
        {"completion": "f", "verdict_status": "timeout"},
        {"completion": "g", "finish_reason": "stop_string"},
    )
    assert made(table)["sample_index"].to_list() == [0, 7]


def test_short_ones_are_preferred_and_ties_go_to_the_lowest_index() -> None:
    table = samples(*({"completion": str(i), "completion_tokens": t} for i, t in enumerate([9, 3, 3, 1, 20])))
    assert made(table, per_problem=2)["sample_index"].to_list() == [1, 3]
    assert made(table, per_problem=2, prefer="first")["sample_index"].to_list() == [0, 1]
    assert made(table, max_tokens=3)["sample_index"].to_list() == [1, 2, 3]


def test_the_conversation_holds_the_problem_and_the_completion() -> None:
    row = made(samples({"completion": "It is 7."}), system="Be brief.").row(0, named=True)
    assert spoken(row["messages"]) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": 'What is 3 + 4? <b> "quoted"'},
        {"role": "assistant", "content": "It is 7."},
    ]
    assert [turn["role"] for turn in made(samples({})).row(0, named=True)["messages"]] == ["user", "assistant"]


def test_a_problems_own_turns_are_kept_and_its_system_turn_wins() -> None:
    row = made(samples({"problem_id": "p1"}), system="mine").row(0, named=True)
    assert [(turn["role"], turn["content"]) for turn in row["messages"]] == [
        ("system", "own"),
        ("user", "turn"),
        ("assistant", "7"),
    ]


def test_reasoning_comes_back_in_think_tags() -> None:
    table = samples({"reasoning": "3 and 4\n"}, {"completion": "seven", "reasoning": ""})
    texts = [row["messages"][-1]["content"] for row in made(table).iter_rows(named=True)]
    assert texts == ["<think>\n3 and 4\n</think>\n\n7", "seven"]


def test_lineage_names_the_sample_and_who_accepted_it() -> None:
    row = made(samples({"credit": 0.75})).row(0, named=True)
    assert json.loads(row["lineage"]) == {
        "problem_key": "p0",
        "sample_index": 0,
        "run_id": "r1",
        "verifier": "",
        "credit": 0.75,
        "operator": "synthesize.sft 4",
    }
    assert row["score"] == 0.75


def test_nothing_right_gives_no_rows() -> None:
    assert made(samples({"is_correct": False})).is_empty()
    assert made(samples({}).clear()).is_empty()


def test_given_paths_exactly_these_are_taken() -> None:
    table = samples({"completion": "a"}, {"completion": "long", "completion_tokens": 90}, {"completion": "c"})
    paths = pl.DataFrame({"problem_id": "p0", "sample_index": [0, 1, 2], "kept": [False, True, False]})
    assert made(table, paths=paths, per_problem=1)["sample_index"].to_list() == [1]


@pytest.mark.parametrize(
    ("row", "tags", "drop"),
    [
        ({"completion": "So.\n</think>\n\n4"}, "<think>\nSo.\n</think>\n\n4", "4"),
        ({"completion": "So. </think> 4", "thought_open": True}, "<think>\nSo.\n</think>\n\n4", " 4"),
        ({"completion": "So[/THINK]4"}, "[THINK]\nSo\n[/THINK]\n\n4", "4"),
        ({"completion": "<think>So</think>4"}, "<think>So</think>4", "4"),
        ({"completion": "4", "reasoning": " So \n"}, "<think>\nSo\n</think>\n\n4", "4"),
        ({"completion": "4"}, "4", "4"),
    ],
)
def test_a_thought_has_both_of_its_tags_or_is_left_out(row: dict[str, Any], tags: str, drop: str) -> None:
    table = samples(row)
    assert made(table).row(0, named=True)["messages"][-1]["content"] == tags
    assert made(table, reasoning="drop").row(0, named=True)["messages"][-1]["content"] == drop


def test_what_the_model_goes_on_with_is_part_of_its_answer() -> None:
    begun = [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "Sure. <think>\n"}]
    problems = pl.DataFrame({"problem_id": ["p0"], "prompt": ["Q?"], "messages": [begun]})
    table = samples({"completion": "So.\n</think>\n\n7"})
    verdicts = table.select("problem_id", "sample_index", "is_correct", "credit", status="verdict_status")
    given = {"problems": problems, "samples": table, "verdicts": verdicts}
    operator = SynthesizeSft()
    ready = {name: conform(given[name], columns, name) for name, columns in operator.inputs.items() if name in given}
    turns = validate(operator.run(**ready), Sft, "test").row(0, named=True)["messages"]
    assert spoken(turns) == [begun[0], {"role": "assistant", "content": "Sure. <think>\nSo.\n</think>\n\n7"}]


def test_calls_of_the_answer_are_kept() -> None:
    calls = '[{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]'
    row = made(samples({"completion": "", "tool_calls": calls})).row(0, named=True)
    assert row["messages"][-1]["tool_calls"] == calls
