"""Public data sets' shapes (``shapes.py``): what each becomes, and that the documentation says the same."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from operators.load import Load
from schemas.contract import validate
from schemas.datasets import Problem
from schemas.errors import BadInput
from tests.unit.shapes import SHAPES, Shape


def written(shape: Shape, folder: Path) -> str:
    path = folder / f"rows{shape.suffix}"
    if shape.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in shape.rows))
    elif shape.suffix == ".json":
        path.write_text(json.dumps(shape.rows, indent=1))
    elif shape.suffix == ".csv":
        pl.DataFrame(shape.rows).write_csv(path)
    else:
        pl.DataFrame(shape.rows).write_parquet(path)
    return str(path)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_public_shape_is_what_people_expect(shape: Shape, tmp_path: Path) -> None:
    load = Load(source=written(shape, tmp_path), **shape.settings)
    if shape.refused:
        with pytest.raises(BadInput) as refused:
            load.run()
        assert all(word in str(refused.value) for word in shape.refused)
        return
    problems = load.run()
    assert len(validate(problems, Problem, "load")) == len(shape.rows) == 3
    first = problems.row(0, named=True)
    verification = json.loads(first["verification"] or "{}")
    assert shape.says in first["prompt"]
    assert first["task_type"] == shape.task
    assert {key: verification.get(key) for key in shape.check} == shape.check
    if shape.answer is None and shape.task == "choice":  # the order of the options is their own
        assert verification["choices"]["ABCD".index(first["answer"])] == "right"
    else:
        assert first["answer"] == shape.answer


def test_the_shapes_are_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "files.md").read_text()
    assert len(SHAPES) >= 60
    for shape in SHAPES:
        assert shape.name in text, shape.name
