"""Bare counts: how many samples each problem got and how many were right, however they were made.

Everything that pass@k needs to know of a view. Published counts can be measured with nothing else at hand, and measures
over millions of verdicts start by reducing them to this.
"""

from __future__ import annotations

import dataframely as dy
import polars as pl

from operators.piecewise import PiecewiseOperator
from operators.select.classes import one_verifier
from schemas.contract import Contract
from schemas.datasets import VERDICT_STATUS, Verdict
from schemas.errors import BadInput

DRAWN = ("ok", "unparseable", "timeout")
"""Statuses of a verdict that counts as a draw, where ``is_correct`` is known."""
SILENT = tuple(status for status in VERDICT_STATUS if status not in ("ok", "unparseable"))
UNKNOWN = "without a known answer"
LEFT_OUT = (*SILENT, UNKNOWN)
"""Why a verdict isn't a draw."""


class Counts(Contract):
    """n samples of a problem, c of them correct; one row per problem (and model, where several were sampled)."""

    problem_id = dy.String(nullable=False)
    n = dy.Int64(nullable=False, min=0)
    c = dy.Int64(nullable=False, min=0)
    model = dy.String(nullable=True)


def count_verdicts(verdicts: pl.DataFrame) -> pl.DataFrame:
    """Reduce verdicts to counts.

    A verdict is a draw if ``is_correct`` is known and its status is ``ok``, ``unparseable`` (an answer that can't be
    read is a wrong one) or ``timeout`` (a program that takes too long is a wrong one). ``error``, ``skipped`` and a
    ``timeout`` of the verifier's own mean that nobody knows; counted as wrong they would push pass@k down, and as right
    up, so they leave n, as do verdicts on problems without a known answer.

    Args:
        verdicts: problem_key, sample_index, is_correct, status; ``verifier`` decides where there are several.

    Returns:
        One row per problem, in order of the key: problem_id (the problem_key), n, c, with n = 0 where nothing was a
        draw; ``first``, the number of draws up to the first right one, null where there is none; and how many rows were
        left out of n, under each name in ``LEFT_OUT``.
    """
    draw = pl.col("status").is_in(DRAWN) & pl.col("is_correct").is_not_null()
    right = draw & pl.col("is_correct").fill_null(False)
    index = pl.col("sample_index")
    silent = [((pl.col("status") == status) & ~draw).sum().cast(pl.Int64).alias(status) for status in SILENT]
    return (
        one_verifier(verdicts)
        .lazy()
        .group_by(pl.col("problem_key").alias("problem_id"))
        .agg(
            draw.sum().cast(pl.Int64).alias("n"),
            right.sum().cast(pl.Int64).alias("c"),
            (draw & (index <= index.filter(right).min())).sum().cast(pl.Int64).alias("first"),
            *silent,
            pl.len().cast(pl.Int64).alias(UNKNOWN),
        )
        .with_columns(pl.col(UNKNOWN) - pl.sum_horizontal("n", *SILENT), first=pl.when(pl.col("c") > 0).then("first"))
        .sort("problem_id")
        .collect(engine="streaming")
    )


def left_out(counts: pl.DataFrame) -> str:
    """Say how many verdicts ``count_verdicts`` left out of n and why; "" if none, and of counts that came bare."""
    totals = counts.select(pl.col(LEFT_OUT).sum()).row(0, named=True)
    named = [f"{count:,} {reason}" for reason, count in totals.items() if count]
    return f"samples left out of n: {', '.join(named)}" if named else ""


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


class FromCounts(PiecewiseOperator):
    """Base of measures that need no more than counts: of verdicts, or bare (which win where both are given)."""

    inputs = {
        "verdicts": Verdict.select("problem_key", "sample_index", "verifier", "is_correct", "status"),
        "counts": Counts.select(),
    }
    optional = frozenset({"verdicts", "counts"})

    def partial(self, verdicts: pl.DataFrame | None = None, counts: pl.DataFrame | None = None) -> pl.DataFrame:
        """Return a row per problem: problem_id, n, c, model, first, and how many verdicts were left out of n and why.

        ``first`` and the columns of the reasons (``LEFT_OUT``) are null where counts came bare, and ``model`` is where
        verdicts did.

        Raises:
            BadInput: neither verdicts nor counts, or counts that can't be.
        """
        if counts is not None:
            check_counts(counts)
            return counts.with_columns(pl.lit(None, pl.Int64).alias(name) for name in ("first", *LEFT_OUT))
        if verdicts is None:
            raise BadInput(f"{self.public_name()} needs 'verdicts', or 'counts' with problem_id, n and c")
        counted = count_verdicts(verdicts)
        return counted.select("problem_id", "n", "c", pl.lit(None, pl.String).alias("model"), "first", *LEFT_OUT)
