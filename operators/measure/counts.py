"""Bare counts: how many samples each problem got and how many were right, however they were made.

Everything that pass@k needs to know of a view. Published counts can be measured with nothing else at hand, and measures
over millions of verdicts start by reducing them to this.
"""

from __future__ import annotations

import dataframely as dy
import polars as pl

from operators.select.classes import one_verifier
from schemas.contract import Contract
from schemas.datasets import VERDICT_STATUS
from schemas.errors import BadInput

DRAWN = ("ok", "unparseable")
"""Statuses of a verdict that counts as a draw; ``is_correct`` must be known besides."""


class Counts(Contract):
    """n samples of a problem, c of them correct; one row per problem (and model, where several were sampled)."""

    problem_id = dy.String(nullable=False)
    n = dy.Int64(nullable=False, min=0)
    c = dy.Int64(nullable=False, min=0)
    model = dy.String(nullable=True)


def count_verdicts(verdicts: pl.LazyFrame) -> tuple[pl.DataFrame, str]:
    """Reduce verdicts to counts, in one streaming pass.

    A verdict is a draw if its status is ``ok`` or ``unparseable`` and ``is_correct`` is known: an answer that can't be
    read is a wrong one. ``error``, ``skipped`` and ``timeout`` mean that nobody knows; counted as wrong they would push
    pass@k down, and as right up, so they leave n, as do verdicts on problems without a known answer.

    Args:
        verdicts: problem_key, sample_index, is_correct, status; ``verifier`` decides where there are several.

    Returns:
        problem_id (the problem_key), n, c, in order of the key, with n = 0 where nothing was a draw; and a text that
        says which rows were left out ("" if none).
    """
    drawn = pl.col("status").is_in(DRAWN) & pl.col("is_correct").is_not_null()
    statuses = [(pl.col("status") == status).sum().cast(pl.Int64).alias(status) for status in VERDICT_STATUS]
    rows = (
        one_verifier(verdicts)
        .group_by(pl.col("problem_key").alias("problem_id"))
        .agg(
            drawn.sum().cast(pl.Int64).alias("n"),
            (drawn & pl.col("is_correct").fill_null(False)).sum().cast(pl.Int64).alias("c"),
            pl.len().cast(pl.Int64).alias("rows"),
            *statuses,
        )
        .sort("problem_id")
        .collect(engine="streaming")
    )
    totals = rows.select(pl.col("n", "rows", *VERDICT_STATUS).sum()).row(0, named=True) if len(rows) else {}
    out = {status: totals.get(status, 0) for status in VERDICT_STATUS if status not in DRAWN}
    unknown = totals.get("rows", 0) - totals.get("n", 0) - sum(out.values())
    named = [f"{count:,} {status}" for status, count in {**out, "without a known answer": unknown}.items() if count]
    return rows.select("problem_id", "n", "c"), f"samples left out of n: {', '.join(named)}" if named else ""


def check_counts(counts: pl.DataFrame) -> None:
    """Refuse counts that can't be.

    Raises:
        BadInput: c > n, a negative number, or a problem twice (for the same model).
    """
    wrong = counts.filter((pl.col("c") > pl.col("n")) | (pl.col("c") < 0))
    if len(wrong):
        row = wrong.row(0, named=True)
        raise BadInput(
            f"counts: problem '{row['problem_id']}' has c = {row['c']} correct of n = {row['n']} samples; c must be in "
            f"[0, n] ({len(wrong)} such row(s))"
        )
    twice = counts.filter(pl.struct("problem_id", "model").is_duplicated())
    if len(twice):
        raise BadInput(
            f"counts: problem '{twice['problem_id'][0]}' occurs more than once for one model ({len(twice)} such rows); "
            "add up n and c of the same problem, or name the models in a column 'model'"
        )
