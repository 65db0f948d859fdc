"""Measures of odd tables: an answer in which every number is one, or a sentence that says what is wrong."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from operators import operator_class
from operators.base import Operator
from schemas.contract import Columns, conform
from schemas.errors import BadInput
from tests.drift.cases import TABLES, Case, cases, table

NAMES = (
    *(
        "measure.holdout",
        "measure.estimate",
        "measure.pairs",
        "measure.reliability",
        "measure.bounds",
        "measure.paired",
    ),
    *("measure.stress", "measure.by_steps", "measure.mcq_confidence", "measure.next_labels", "measure.verifier_audit"),
    *("synthesize.pairs", "synthesize.rest", "measure.pass_at_k", "measure.selection"),
)
Change = Callable[[pl.DataFrame], pl.DataFrame]


def one_problem(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("problem_key") == rows["problem_key"].min()) if "problem_key" in rows.columns else rows


def verdict(value: bool | None) -> Change:
    def change(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.with_columns(is_correct=pl.lit(value, pl.Boolean)) if "is_correct" in rows.columns else rows

    return change


def no_numbers(rows: pl.DataFrame) -> pl.DataFrame:
    floats = [name for name, dtype in rows.schema.items() if dtype.is_float()]
    return rows.with_columns(pl.lit(float("nan")).cast(rows.schema[name]).alias(name) for name in floats)


def status(value: str) -> Change:
    def change(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.with_columns(status=pl.lit(value)) if "status" in rows.columns else rows

    return change


CHANGES: dict[str, Change] = {
    "empty": lambda rows: rows.clear(),
    "one row": lambda rows: rows.head(1),
    "one problem": one_problem,
    "all right": verdict(True),
    "all wrong": verdict(False),
    "unlabelled": verdict(None),
    "no numbers": no_numbers,
    "errors": status("error"),
    "unreadable": status("unparseable"),
}


def asked(case: Case, operator: Operator, change: Change, only: str | None) -> dict[str, pl.LazyFrame | None]:
    """Return a case's inputs, one of them (or all) changed."""

    def one(name: str, columns: Columns) -> pl.DataFrame | None:
        source = case.tables.get(name, TABLES.get(columns.contract.__name__))
        if source is None:
            return None
        rows = conform(table(source), columns, source)
        if case.problems and "problem_key" in rows.columns:
            rows = rows.filter(pl.col("problem_key").is_in(case.problems))
        return change(rows) if only in (None, name) else rows

    found = {name: one(name, columns) for name, columns in operator.inputs.items()}
    lazy = operator.scope == "dataset"
    return {name: rows.lazy() if lazy and rows is not None else rows for name, rows in found.items()}  # type: ignore[misc]


@pytest.mark.parametrize("change", list(CHANGES))
@pytest.mark.parametrize("name", NAMES)
def test_every_number_is_one_or_the_table_is_refused(name: str, change: str) -> None:
    for case in cases(name):
        operator = operator_class(name)(**case.settings)
        for only in (None, *operator.inputs):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                try:
                    made = operator.run(**asked(case, operator, CHANGES[change], only))
                except BadInput as error:
                    assert len(str(error)) > 20
                    continue
            for row in made.to_dicts():
                sound(row, f"{name}, {change} {only}")


def sound(row: dict[str, Any], where: str) -> None:
    for column, value in row.items():
        assert not isinstance(value, float) or math.isfinite(value), f"{where}: {column} of {row}"
    for low, value, high in (("low", "value", "high"), ("low", "coverage", "high")):
        if all(isinstance(row.get(column), float) for column in (low, value, high)):
            assert row[low] - 1e-9 <= row[high], f"{where}: {row}"
