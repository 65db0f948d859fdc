"""Majority vote, or self-consistency: the answer that most samples of a problem agree on."""

from __future__ import annotations

from typing import ClassVar

import polars as pl

from operators.base import Operator
from operators.select.classes import class_votes, in_n, one_verifier
from schemas.contract import polars_schema
from schemas.datasets import Answer, Verdict


class MajorityVote(Operator):
    """Pick the most frequent answer of each problem (Wang et al. 2023, "Self-Consistency").

    Ties go to the answer that was seen first. Confidence is votes/n, where n is the number of samples whose verdict is
    neither ``error`` nor ``skipped``. A sample without a readable answer is in n: the model spoke and voted for
    nothing, and leaving it out would make a model that seldom answers look sure of itself. A problem without any answer
    gets a row with a null answer and confidence 0, wrong where a verdict shows that the right answer is known, so that
    accuracy is never taken over answered problems only.
    """

    version: ClassVar[int] = 1
    scope = "problem"
    inputs = {
        "verdicts": Verdict.select(
            "problem_key",
            "sample_index",
            "verifier",
            "problem_id",
            "predicted_answer",
            "answer_key",
            "is_correct",
            "status",
        )
    }
    output = Answer

    def run(self, verdicts: pl.DataFrame) -> pl.DataFrame:
        """Return one row per problem of ``verdicts``.

        Several verifiers of a sample: the one whose name sorts first is used (``one_verifier``).
        """
        verdicts = one_verifier(verdicts)
        problems = (
            verdicts.lazy()
            .group_by("problem_key")
            .agg(
                pl.col("problem_id").first(),
                in_n().sum().cast(pl.Int64).alias("n_samples"),
                pl.col("is_correct").is_not_null().any().alias("known"),
            )
        )
        votes = class_votes(verdicts)
        ranked = votes.with_columns(rank=pl.int_range(pl.len()).over("problem_key"))
        first = ranked.filter(pl.col("rank") == 0).select(
            "problem_key", "answer", "answer_class", "votes", "is_correct"
        )
        second = ranked.filter(pl.col("rank") == 1).select(
            "problem_key", pl.col("answer").alias("runner_up"), pl.col("votes").alias("runner_up_votes")
        )
        answers = (
            problems.collect(engine="streaming")
            .join(first, on="problem_key", how="left")
            .join(second, on="problem_key", how="left")
        )
        answers = answers.with_columns(
            method=pl.lit("majority"),
            confidence=(pl.col("votes") / pl.col("n_samples")).fill_null(0.0),
            runner_up_confidence=pl.col("runner_up_votes") / pl.col("n_samples"),
            is_correct=pl.when(pl.col("answer").is_null() & pl.col("known")).then(False).otherwise("is_correct"),
        )
        return answers.select(list(polars_schema(Answer))).cast(polars_schema(Answer)).sort("problem_key")  # pyright: ignore[reportArgumentType]
