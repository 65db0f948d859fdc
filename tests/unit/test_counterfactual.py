"""Counterfactual multiple choice and its thought-path pairs, with a scripted model."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from cluster.engines.scripted import ScriptedEngine
from operators.transform.counterfactual import SynthesizeCounterfactual, SynthesizeThoughtPairs, read_choice
from schemas.contract import conform, validate
from schemas.datasets import Preference, Sft
from schemas.engine import ScriptedSpec
from schemas.errors import BadInput

PROMPT = "All cats in the house sleep. Tom is a cat in the house.\nWhat does Tom do?\n\nA) He sleeps.\nB) He barks."
CHANGED = "All cats in the house bark. Tom is a cat in the house.\nWhat does Tom do?"
WHY = "FOUND: cats are named\nMISSING: that Tom is a dog\nREASON: it follows, or doesn't"
SAYS = {"exactly three lines": (WHY,), "TEXT:": (f"TEXT: {CHANGED}",), "cats in the house bark": ("I pick (B).",)}


def problem(prompt: str = PROMPT, answer: str | None = "A", **columns: Any) -> dict[str, Any]:
    row = {"problem_key": "k", "problem_id": "p", "prompt": prompt, "answer": answer, "verification": None}
    return {**row, **columns}


def made(says: dict[str, tuple[str, ...]] = SAYS, sft: pl.DataFrame | None = None, **fields: Any) -> pl.DataFrame:
    operator = SynthesizeCounterfactual(**fields)
    problems = conform(
        pl.DataFrame([problem()], schema_overrides={"verification": pl.String}), operator.inputs["problems"], "p"
    )
    engine = ScriptedEngine(ScriptedSpec(by_prompt=says))
    return validate(operator.run(engine, problems=problems, sft=sft), Sft, "test")


def notes(table: pl.DataFrame) -> list[dict[str, Any]]:
    return [json.loads(lineage)["transformations"][-1] for lineage in table["lineage"]]


def own_row() -> pl.DataFrame:
    turns = [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": "A"}]
    row = {"problem_key": "k", "sample_index": 5, "problem_id": "p", "messages": turns, "completion_tokens": 1}
    table = pl.DataFrame([{**row, "score": None, "lineage": "{}"}], schema_overrides={"score": pl.Float64})
    return conform(table, Sft.select(), "sft")


def test_each_option_has_its_rationale_and_a_wrong_one_becomes_right() -> None:
    original, changed = made().to_dicts()
    assert original["messages"][0]["content"] == PROMPT
    said = original["messages"][1]["content"]
    assert said.startswith("(A) Premises found: cats are named\nPremises missing: that Tom is a dog\nit follows")
    assert "\n\n(B) Premises found" in said
    assert said.endswith("The answer is (A).")
    assert changed["messages"][0]["content"] == f"{CHANGED}\n\nA) He sleeps.\nB) He barks."
    assert changed["messages"][1]["content"].endswith("The answer is (B).")
    assert [(note["kind"], note["answer"]) for note in notes(made())] == [("original", "A"), ("counterfactual", "B")]
    assert [original["sample_index"], changed["sample_index"]] == [0, 1]


def test_rows_that_were_there_come_first_and_stay() -> None:
    table = made(sft=own_row())
    assert table["sample_index"].to_list() == [5, 6, 7]
    assert table.row(0, named=True) == own_row().row(0, named=True)


def test_a_changed_problem_that_the_model_answers_otherwise_is_dropped() -> None:
    table = made({**SAYS, "cats in the house bark": ("I pick (A).",)})
    assert [note["kind"] for note in notes(table)] == ["original"]
    unchanged = made({**SAYS, "TEXT:": (f"TEXT: {PROMPT}",)})
    assert [note["kind"] for note in notes(unchanged)] == ["original"]


def test_why_a_problem_gave_nothing_is_in_its_rows() -> None:
    [note] = notes(made({"exactly three lines": ("I won't.",)}, own_row()))
    assert note["unchanged"] == "the rationale of option A can't be read"
    assert made({"exactly three lines": ("I won't.",)}).is_empty()


def test_options_come_from_the_prompt_or_from_the_verification() -> None:
    choice = read_choice(problem())
    assert not isinstance(choice, str)
    assert (choice.letters, choice.right) == ("AB", "A")
    assert choice.stem == "All cats in the house sleep. Tom is a cat in the house.\nWhat does Tom do?\n\n"
    given = read_choice(problem("Which?", "barks", verification=json.dumps({"choices": ["sleeps", "barks"]})))
    assert not isinstance(given, str)
    assert (given.listed, given.right) == ("A) sleeps\nB) barks", "B")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (problem("What is it?"), "it has no options"),
        (problem(answer=None), "it has no answer"),
        (problem("What?\nA) this"), "it has one option"),
    ],
)
def test_what_is_no_multiple_choice_says_why(row: dict[str, Any], reason: str) -> None:
    assert read_choice(row) == reason


def test_an_answer_that_is_no_option_is_bad_input() -> None:
    with pytest.raises(BadInput, match="problem 'p': its answer 'E' is neither"):
        read_choice(problem(answer="E"))


def test_each_path_is_rejected_in_the_other_context() -> None:
    table = conform(made(sft=own_row()), SynthesizeThoughtPairs.inputs["sft"], "sft")
    first, second = validate(SynthesizeThoughtPairs().run(table), Preference, "test").to_dicts()
    assert first["prompt"][0]["content"] == PROMPT
    assert first["chosen"][0]["content"].endswith("(A).")
    assert first["rejected"][0]["content"].endswith("(B).")
    assert second["prompt"][0]["content"].startswith(CHANGED)
    assert second["chosen"] == first["rejected"]
    assert second["rejected"] == first["chosen"]
    assert json.loads(first["lineage"])["chosen"] == 6
