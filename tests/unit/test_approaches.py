"""synthesize.approaches: what is named most often, ordered by how often it is right, and taken by div_se."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from operators.engine import Request
from operators.strategies.div_se import DivSe
from operators.strategies.idiv_se import IdivSe
from operators.synthesize.approaches import SynthesizeApproaches
from operators.verify.exact import VerifyExact
from schemas.contract import polars_schema, validate
from schemas.datasets import Problem
from schemas.errors import BadInput
from schemas.studies import Approach
from tests.unit.strategies.literature import Script

PROBLEMS = pl.DataFrame(
    [
        {"problem_key": f"k{at:02}", "problem_id": f"p{at}", "prompt": f"Problem {at}", "answer": f"{at}",
         "task_type": "math"}
        for at in range(8)
    ],
    schema=polars_schema(Problem), strict=False,
)  # fmt: skip


def say(request: Request) -> str:
    """Tables are always right, equations where a teacher uses them; guessing never is."""
    text = request.prompt
    number = text.partition("Problem ")[2].split()[0]
    if "Name up to five" in text:
        more = "\nApproach: Guess" if int(number) % 2 else ""
        return f"Approach: *Use equations.*\n- approach: use a table{more}\nPersona: a teacher\nPersona: a clown"
    right = "table" in text or ("equations" in text and "a teacher" in text)
    return number if right else "none"


def run(**fields: Any) -> tuple[pl.DataFrame, Script]:
    engine = Script(say)
    operator = SynthesizeApproaches(asked=4, held_out=4, verify=VerifyExact(), **fields)
    return validate(operator.run(engine, problems=PROBLEMS.lazy()), Approach, "approaches"), engine


def test_pairs_are_ordered_by_accuracy_and_each_approach_has_its_best_persona() -> None:
    found, engine = run(personas=2)
    rows = found.to_dicts()
    assert [(row["approach"], row["persona"], row["accuracy"]) for row in rows] == [
        ("use a table", "", 1.0), ("use equations", "a teacher", 1.0), ("guess", "", 0.0),
    ] or [(row["approach"], row["persona"], row["accuracy"]) for row in rows] == [
        ("use equations", "a teacher", 1.0), ("use a table", "", 1.0), ("guess", "", 0.0),
    ]  # fmt: skip
    assert {row["named"] for row in rows[:2]} == {4} and rows[2]["named"] < 4 and rows[0]["n"] == 4
    told = {row["approach"]: row["said"] for row in rows}
    assert told["use equations"] == "You are a teacher. Solve it by this approach: use equations."
    assert len(engine.requests) == 4 + 3 * 3 * 4
    shown = {one.prompt.partition("Problem ")[2].split()[0] for one in engine.requests[:4]}
    asked = {one.prompt.partition("Problem ")[2].split()[0] for one in engine.requests[4:]}
    assert not shown & asked and {one.params.temperature for one in engine.requests[4:]} == {0.0}


def test_examples_are_those_that_come_to_the_right_answer() -> None:
    found, _ = run(examples=1, approaches=1, personas=0)
    [row] = found.to_dicts()
    assert ("For example" in row["said"]) == ("table" in row["approach"])
    found, _ = run(examples=2, approaches=3, personas=0)
    told = {row["approach"]: row["said"].count("For example") for row in found.to_dicts()}
    assert told == {"use a table": 2, "use equations": 0, "guess": 0}


def test_a_strategy_takes_the_file_and_is_known_by_its_content(tmp_path: Path) -> None:
    found, _ = run()
    for name in ("one.parquet", "two.parquet"):
        found.write_parquet(tmp_path / name)
    one, two = (DivSe(approaches=str(tmp_path / name)) for name in ("one.parquet", "two.parquet"))  # type: ignore[arg-type]
    assert one.approaches == tuple(found["said"]) and one.id() == two.id() != DivSe().id() and one.rows == 3
    assert IdivSe(approaches=str(tmp_path / "one.parquet")).approaches == one.approaches  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match=r"no file of synthesize\.approaches"):
        DivSe(approaches="nowhere.parquet")  # type: ignore[arg-type]


def test_what_is_too_little_is_refused() -> None:
    with pytest.raises(BadInput, match="there are 8"):
        SynthesizeApproaches(asked=8, held_out=1).run(Script(say), problems=PROBLEMS.lazy())
    with pytest.raises(BadInput, match="named no approach"):
        SynthesizeApproaches(asked=1, held_out=0, verify=VerifyExact()).run(
            Script(lambda _: "I can't"), problems=PROBLEMS.lazy()
        )
    found = SynthesizeApproaches(asked=8, held_out=0, verify=VerifyExact()).run(Script(say), problems=PROBLEMS.lazy())
    assert found["accuracy"].null_count() == len(found) == 3 and found["approach"][-1] == "guess"
