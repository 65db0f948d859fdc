"""Mixing kinds of tasks by quotas."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from operators.synthesize.mix import SynthesizeMix
from schemas.contract import conform, validate
from schemas.datasets import Path
from schemas.errors import BadInput


def inputs(**kinds: int) -> dict[str, pl.LazyFrame]:
    """Return rows of several kinds; ``concise`` in a kind's name: their last transformation."""
    rows = [
        {
            "problem_key": f"{kind}{number}",
            "sample_index": 0,
            "problem_id": f"{kind}{number}",
            "task_type": kind,
            "lineage": json.dumps(
                {"transformations": [{"operator": "synthesize.drop_trace 1", "level": number % 2}]}
                if kind == "code"
                else {}
            ),
        }
        for kind, count in kinds.items()
        for number in range(count)
    ]
    table = pl.DataFrame(rows).lazy()
    return {
        "sft": table.select("problem_key", "sample_index", "problem_id", "lineage"),
        "problems": table.select("problem_key", "task_type"),
    }


def mixed(tables: dict[str, pl.LazyFrame], **fields: Any) -> pl.DataFrame:
    return validate(SynthesizeMix(**fields).run(**tables), Path, "test")


def kept(table: pl.DataFrame) -> dict[str, int]:
    kind = pl.col("problem_key").str.extract(r"^(\D+)")
    return dict(table.filter("kept").group_by(kind).len().sort("problem_key").iter_rows())


def test_quotas_in_rows() -> None:
    table = mixed(inputs(math=10, code=10, chat=3), rows={"math": 4, "code": 20})
    assert kept(table) == {"math": 4, "code": 10}
    reasons = dict(table.group_by("reason").len().iter_rows())
    assert reasons == {None: 14, "beyond the quota of its kind of task": 6, "no quota for its kind of task": 3}


def test_kinds_without_a_quota_can_share_one() -> None:
    assert sum(kept(mixed(inputs(math=10, code=10, chat=3), rows={"math": 1, "*": 5})).values()) == 6


def test_shares_give_the_largest_mixture_or_the_total() -> None:
    tables = inputs(math=100, code=10)
    assert kept(mixed(tables, shares={"math": 0.75, "code": 0.25})) == {"math": 30, "code": 10}
    assert kept(mixed(tables, shares={"math": 0.75, "code": 0.25}, total=10)) in (
        {"math": 8, "code": 2},
        {"math": 7, "code": 3},
    )
    with pytest.raises(BadInput, match="a mixture of 100 rows needs 25 of 'code', there are 10"):
        mixed(tables, shares={"math": 0.75, "code": 0.25}, total=100)


def test_the_draw_depends_on_the_seed_and_not_on_the_order() -> None:
    tables = inputs(math=50)
    first = mixed(tables, rows={"math": 10})
    shuffled = {
        name: table.collect().sample(fraction=1.0, shuffle=True, seed=3).lazy() for name, table in tables.items()
    }
    assert first.equals(mixed(shuffled, rows={"math": 10}))
    assert not first.equals(mixed(tables, rows={"math": 10}, seed=1))


def test_what_was_dropped_before_fills_no_quota() -> None:
    tables = inputs(math=10)
    before = mixed(tables, rows={"math": 6})
    paths = conform(before, SynthesizeMix.inputs["paths"], "paths").lazy()
    after = mixed({**tables, "paths": paths}, rows={"math": 6}, seed=9)
    assert after["kept"].to_list() == before["kept"].to_list()


def test_kinds_can_be_transformations() -> None:
    tables = inputs(math=4, code=6)
    quotas = {"none": 2, "synthesize.drop_trace:1": 3, "synthesize.drop_trace:0": 1}
    assert kept(mixed(tables, by="transformation", rows=quotas)) == {"math": 2, "code": 4}


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({}, "in rows or in shares"),
        ({"rows": {"a": 1}, "shares": {"a": 1.0}}, "in rows or in shares"),
        ({"shares": {"a": 0.5}}, "must add up to 1"),
        ({"rows": {"a": 1}, "total": 5}, "total needs shares"),
    ],
)
def test_settings_that_contradict_each_other(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        SynthesizeMix(**fields)
