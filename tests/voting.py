"""Samples of problems as selections see them, and what a selection says of them."""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from operators.base import Operator
from schemas.contract import conform, validate
from schemas.datasets import Answer

Row = dict[str, Any]


def rows(*answers: str | None, **columns: list[Any]) -> list[Row]:
    """One problem's samples; by default each has a text of its own, p = 1/2 and a score of 1."""
    found: list[Row] = []
    for index, answer in enumerate(answers):
        row = {"answer": answer, "text": f"{index}: {answer}", "logprob": math.log(0.5), "score": 1.0, "worker": "m"}
        found.append({**row, **{name: values[index] for name, values in columns.items()}})
    return found


def tables(*problems: list[Row], right: str = "7") -> dict[str, pl.DataFrame]:
    """Return verdicts, samples and scores of problems p0, p1, ..."""
    schema = {
        "problem_id": pl.String, "sample_index": pl.Int64, "answer": pl.String, "text": pl.String,
        "logprob": pl.Float64, "score": pl.Float64, "worker": pl.String,
    }  # fmt: skip
    flat = [
        {"problem_id": f"p{number}", "sample_index": index, **row}
        for number, problem in enumerate(problems)
        for index, row in enumerate(problem)
    ]
    table = pl.DataFrame(flat, schema=schema)
    key = ["problem_id", "sample_index"]
    status = pl.when(pl.col("answer").is_null()).then(pl.lit("unparseable")).otherwise(pl.lit("ok"))
    return {
        "verdicts": table.select(
            *key,
            pl.col("answer").alias("predicted_answer"),
            (pl.col("answer") == right).fill_null(False).alias("is_correct"),
            status.alias("status"),
        ),
        "samples": table.select(
            *key, "worker", pl.col("text").alias("completion"), pl.col("logprob").alias("mean_logprob")
        ),
        "scores": table.select(*key, "score"),
    }


def select(operator: Operator, given: dict[str, pl.DataFrame]) -> list[Row]:
    """What ``gristmill op`` does; one dict a row."""
    inputs: dict[str, Any] = {}
    for name, columns in operator.inputs.items():
        table = conform(given[name], columns, name) if name in given else None
        inputs[name] = table.lazy() if table is not None and operator.scope == "dataset" else table
    return validate(operator.run(**inputs), Answer, "test").to_dicts()


def one(operator: Operator, *samples: Row) -> Row:
    return select(operator, tables(list(samples)))[0]
