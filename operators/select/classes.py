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

import logging
from collections.abc import Iterable
from functools import cache
from typing import TypeVar

from schemas.datasets import SAMPLE_KEY
from schemas.later import pl

Frame = TypeVar("Frame", "pl.DataFrame", "pl.LazyFrame")

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
        problem_key, answer_key, votes, first_index, answer (``predicted_answer`` of the first sample), is_correct (what
        most of its verdicts say, wrong where as many say right; null if all are), own_class where ``answer_class`` was
        given,        and ``extra``.
    """
    columns = verdicts.lazy().collect_schema()
    own = [pl.col("answer_class").min_by("sample_index").alias("own_class")] if "answer_class" in columns else []
    voting = verdicts.lazy().with_columns(answer_key(columns)).filter(pl.col("answer_key").is_not_null())
    share = pl.col("is_correct").mean()
    found = (
        voting.group_by("problem_key", "answer_key")
        .agg(
            pl.len().cast(pl.Int64).alias("votes"),
            pl.col("sample_index").min().alias("first_index"),
            pl.coalesce("predicted_answer", "answer_key").min_by("sample_index").alias("answer"),
            (share > 0.5).alias("is_correct"),
            ((share > 0.0) & (share < 1.0)).fill_null(False).alias("disagree"),
            *own,
            *extra,
        )
        .sort("problem_key", "first_index")
        .collect(engine="streaming")
    )
    for problem, answer in found.filter("disagree").select("problem_key", "answer").head(1).iter_rows():
        _report(str(problem), str(answer))
    return found.drop("disagree")


@cache
def _report(problem: str, answer: str) -> None:
    """Say once that verdicts of one answer disagree: those of other programs may."""
    logging.getLogger(__name__).warning(
        "The verdicts of the answer '%s' to problem '%s' disagree; what most verdicts of an answer say counts",
        answer[:80],
        problem,
    )


def classify(distinct: pl.DataFrame) -> pl.DataFrame:
    """Add ``answer_class`` to ``distinct_answers``, and give ``is_correct`` of the whole class to each of its keys.

    A class is what ``equivalent_keys`` unites, numbered within its problem by first sample_index; whether an answer is
    right has no part in it, which would tell a vote what to vote for. The class is right if its most frequent key is,
    among those that were judged. An integer ``own_class`` is taken as it is, one of another dtype is numbered likewise;
    keys whose own class is null or negative belong to no class and are dropped.
    """
    if "own_class" in distinct.columns:
        distinct = distinct.filter(pl.col("own_class").is_not_null())
        name = "own_class"
    else:
        distinct = equivalent_keys(distinct)
        name = "united"
    if name == "own_class" and distinct.schema[name].is_integer():
        number = pl.col(name).cast(pl.Int64)
    else:
        first = pl.col("first_index").min().over("problem_key", name)
        number = (first.rank("dense").over("problem_key") - 1).cast(pl.Int64)
    classed = distinct.with_columns(answer_class=number).drop(name).filter(pl.col("answer_class") >= 0)
    judged = pl.col("is_correct").sort_by("votes", "first_index", descending=[True, False]).drop_nulls().first()
    return classed.with_columns(judged.over("problem_key", "answer_class"))


_NUMBER_KEY = r"^-?\d{1,18}/\d{1,18}$"
DECIMALS = 6
"""To how many decimals and significant digits two numbers have to agree, where neither is whole; as verify.math judges
by default."""
LARGEST = 1e9
"""Numbers from here on are only equal where they are the same: six decimals of them are beyond a float's."""


def equivalent_keys(distinct: pl.DataFrame) -> pl.DataFrame:
    """Add ``united``: one of the keys that a key is equivalent to in its problem, the same for all of them.

    Numbers that aren't whole are united where they agree to six decimals and six significant digits (0.333333 and 1/3).
    An answer that says less joins the largest class of those that say more and agree with it (12, 12 cm and .12 m), as
    ``operators.verify.reading.votes`` tells. What ``united`` is depends on which keys the problem has and on their
    votes, not on their order.

    Args:
        distinct: problem_key, answer_key (unique together), votes.
    """
    from operators.verify.reading.votes import SPEAKING, unite  # reads answers, which takes a while to import

    keys = distinct.lazy().with_columns(united=pl.col("answer_key"))
    if distinct["answer_key"].str.contains("/", literal=True).any():
        keys = _close(keys)
    found = keys.collect()
    speaking = found.filter(pl.col("answer_key").str.contains(SPEAKING))["problem_key"].unique()
    if speaking.is_empty():
        return found
    concerned = found.filter(pl.col("problem_key").is_in(speaking.implode()))
    rows: list[tuple[str, str, str]] = []
    # a loop over the problems that have such keys, and there over distinct keys: what they say is read one by one
    for (problem,), mine in concerned.group_by("problem_key"):
        votes = dict(mine.group_by("united").agg(pl.col("votes").sum()).iter_rows())
        rows += [(str(problem), key, stands) for key, stands in unite(votes).items()]
    table = pl.DataFrame(rows, schema=["problem_key", "united", "stands"], orient="row")
    found = found.join(table, on=["problem_key", "united"], how="left", maintain_order="left")
    return found.with_columns(united=pl.coalesce("stands", "united")).drop("stands")


def _close(keys: pl.LazyFrame) -> pl.LazyFrame:
    """Unite numbers that aren't whole and agree when they are rounded."""
    parts = pl.col("united").str.split_exact("/", 1)
    value = parts.struct[0].cast(pl.Float64, strict=False) / parts.struct[1].cast(pl.Float64, strict=False)
    is_ratio = pl.col("united").str.contains(_NUMBER_KEY)
    shared = pl.struct(value.round(DECIMALS).alias("decimals"), value.round_sig_figs(DECIMALS).alias("digits"))
    rounded = pl.when(is_ratio & (value.abs() < LARGEST)).then(shared)
    first = pl.col("united").min().over("problem_key", rounded)
    return keys.with_columns(united=pl.when(rounded.is_not_null()).then(first).otherwise("united"))


def class_votes(verdicts: pl.DataFrame, weight: pl.Expr | None = None, *, largest: bool = False) -> pl.DataFrame:
    """Return one row per problem and class, the most votes first, ties in the order in which they were first seen.

    Args:
        weight: what else is summed up for each answer, as an aggregate named ``weight`` (by default its votes).
        largest: of the answers of a class, take the largest weight and not the sum.

    Returns:
        problem_key, answer_class, votes, first_index, answer (as the class's most frequent key has it), is_correct,
        weight.
    """
    classed = classify(distinct_answers(verdicts, weight if weight is not None else pl.len().alias("weight")))
    if classed.select(pl.struct("problem_key", "answer_class").is_duplicated().any()).item():
        classed = classed.group_by("problem_key", "answer_class").agg(
            pl.col("votes").sum(),
            pl.col("first_index").min(),
            pl.col("answer").sort_by("votes", "first_index", descending=[True, False]).first(),
            pl.col("is_correct").first(),
            pl.col("weight").max() if largest else pl.col("weight").sum(),
        )
    names = ["problem_key", "answer_class", "votes", "first_index", "answer", "is_correct", "weight"]
    order = ["problem_key", "votes", "first_index"]
    return classed.select(names).sort(order, descending=[False, True, False])
