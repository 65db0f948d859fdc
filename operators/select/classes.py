"""Answer classes: which of a problem's answers count as the same one, and how many samples gave each.

A sample votes for the class of its answer. A class is a property of a view, not of an answer: it is computed over the
*distinct* answer keys that a problem has there, so ten thousand samples cost as much as their few hundred keys. All
operators that look at whole problems go through ``classify``, so they never disagree about what was voted for.

Which rows count, everywhere:

* a row whose status is ``ok`` and that has an answer belongs to a class and votes;
* ``unparseable`` and ``timeout`` rows are samples that voted for nothing: they count in n;
* ``error`` and ``skipped`` rows say nothing about the model: they aren't in n.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import polars as pl

from schemas.contract import polars_schema
from schemas.datasets import AnswerClass

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)

SAMPLE_KEY = ["problem_key", "sample_index"]
SAYS_NOTHING = ("error", "skipped")
"""Statuses of a verdict that says nothing about its sample."""


def one_verifier(verdicts: Frame) -> Frame:
    """Return one row per sample: where several verifiers looked at it, the one whose name sorts first.

    ``verdicts`` has ``problem_key`` and ``sample_index``; without a ``verifier`` column it is returned as it is.
    A choice between verifiers that matters is the caller's to make, by filtering before.
    """
    if "verifier" not in verdicts.lazy().collect_schema():
        return verdicts
    names = verdicts.lazy().select(pl.col("verifier").min().alias("low"), pl.col("verifier").max().alias("high"))
    low, high = names.collect(engine="streaming").row(0)
    if low == high:
        return verdicts
    return verdicts.filter(pl.col("verifier") == pl.col("verifier").min().over(SAMPLE_KEY))


def in_n() -> pl.Expr:
    """Whether a verdict's sample counts in a vote's n: it voted, or could have."""
    return ~pl.col("status").is_in(SAYS_NOTHING)


def answer_key(columns: Iterable[str]) -> pl.Expr:
    """Return what a verdict voted for, null where it voted for nothing; ``columns`` are those of the table."""
    key = pl.coalesce("answer_key", "predicted_answer")
    if "answer_class" in columns:
        key = pl.coalesce(key, pl.col("answer_class").cast(pl.String))
    return pl.when(pl.col("status") == "ok").then(key).alias("answer_key")


def distinct_answers(verdicts: pl.DataFrame | pl.LazyFrame, *extra: pl.Expr) -> pl.DataFrame:
    """Return one row per problem and distinct answer, in the order in which they were first seen.

    Args:
        verdicts: one row per sample: problem_key, sample_index, predicted_answer, answer_key, is_correct, status; an
            ``answer_class`` (of any dtype) where classes come from elsewhere.
        extra: further aggregates per answer, such as a sum of weights.

    Returns:
        problem_key, answer_key, votes, first_index, answer (``predicted_answer`` of the first sample), is_correct (any
        of its verdicts; null if all are), own_class where ``answer_class`` was given, and ``extra``.
    """
    columns = verdicts.lazy().collect_schema()
    own = [pl.col("answer_class").min_by("sample_index").alias("own_class")] if "answer_class" in columns else []
    voting = verdicts.lazy().with_columns(answer_key(columns)).filter(pl.col("answer_key").is_not_null())
    return (
        voting.group_by("problem_key", "answer_key")
        .agg(
            pl.len().cast(pl.Int64).alias("votes"),
            pl.col("sample_index").min().alias("first_index"),
            pl.coalesce("predicted_answer", "answer_key").min_by("sample_index").alias("answer"),
            pl.col("is_correct").max(),
            *own,
            *extra,
        )
        .sort("problem_key", "first_index")
        .collect(engine="streaming")
    )


def classify(distinct: pl.DataFrame) -> pl.DataFrame:
    """Add ``answer_class`` to ``distinct_answers``, and give ``is_correct`` of the whole class to each of its keys.

    A class is a key, numbered within its problem by first sample_index; an integer ``own_class`` is taken as it is, one
    of another dtype is numbered likewise. Keys whose own class is null or negative belong to no class and are dropped.
    """
    if "own_class" not in distinct.columns:
        return distinct.with_columns(answer_class=pl.int_range(pl.len()).over("problem_key"))
    distinct = distinct.filter(pl.col("own_class").is_not_null())
    if distinct.schema["own_class"].is_integer():
        number = pl.col("own_class").cast(pl.Int64)
    else:
        first = pl.col("first_index").min().over("problem_key", "own_class")
        number = (first.rank("dense").over("problem_key") - 1).cast(pl.Int64)
    classed = distinct.with_columns(answer_class=number).drop("own_class").filter(pl.col("answer_class") >= 0)
    return classed.with_columns(pl.col("is_correct").max().over("problem_key", "answer_class"))


def answer_classes(verdicts: pl.DataFrame) -> pl.DataFrame:
    """Return the classes of one view as ``AnswerClass`` rows; join them to verdicts on problem_key and answer_key.

    Verdicts without ``answer_key`` are known by their ``predicted_answer``.
    """
    names = list(polars_schema(AnswerClass))
    return classify(distinct_answers(one_verifier(verdicts))).select(names)


def class_votes(verdicts: pl.DataFrame) -> pl.DataFrame:
    """Return one row per problem and class, the most votes first, ties in the order in which they were first seen.

    Returns:
        problem_key, answer_class, votes, first_index, answer (of the class's first sample), is_correct.
    """
    classed = classify(distinct_answers(verdicts))
    if classed.select(pl.struct("problem_key", "answer_class").is_duplicated().any()).item():
        classed = classed.group_by("problem_key", "answer_class").agg(
            pl.col("votes").sum(),
            pl.col("first_index").min(),
            pl.col("answer").min_by("first_index"),
            pl.col("is_correct").max(),
        )
    names = ["problem_key", "answer_class", "votes", "first_index", "answer", "is_correct"]
    order = ["problem_key", "votes", "first_index"]
    return classed.select(names).sort(order, descending=[False, True, False])
