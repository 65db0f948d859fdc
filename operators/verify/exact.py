"""Exact answers: normalised strings compared for equality. Multiple choice by letter, labels, short words."""

from __future__ import annotations

import time
from typing import Annotated, ClassVar

import polars as pl

from operators.base import Operator
from operators.thinking import answers_only
from operators.verify.extract import Rule
from operators.verify.verdicts import SAMPLES, join_answers, predicted, verdicts
from schemas.datasets import Problem, Verdict
from schemas.identity import Added


class VerifyExact(Operator):
    """Compare the extracted answer with the problem's as text."""

    version: ClassVar[int] = 2
    scope = "sample"
    inputs = {
        "samples": SAMPLES,
        "problems": Problem.select("problem_key", "messages", "answer"),
    }
    output = Verdict

    extract: tuple[Rule, ...] = ("tag", "boxed", "hashes", "phrase", "whole")
    pattern: str | None = None
    """A regular expression with one group, instead of ``extract``."""
    ignore_case: bool = True
    ignore_punctuation: bool = False
    """Compare letters, digits and spaces only."""
    ignore_space: Annotated[bool, Added] = False
    """Compare without white space."""

    def run(self, samples: pl.DataFrame, problems: pl.DataFrame) -> pl.DataFrame:
        began = time.perf_counter()
        samples = answers_only(samples, problems)
        found = predicted(samples, problems.select("problem_key", "answer"), self.extract, self.pattern)
        answers = found.select("predicted_answer").drop_nulls().unique()
        keys = answers.with_columns(answer_key=self._key(pl.col("predicted_answer")), key_status=pl.lit("ok"))
        found = join_answers(found, keys)
        pairs = found.select("answer", "answer_key").drop_nulls().unique()
        judged = pairs.with_columns(
            is_correct=self._key(pl.col("answer")) == pl.col("answer_key"),
            judged_status=pl.lit("ok"),
            detail=pl.lit(None, dtype=pl.String),
        )
        return verdicts(self, found, judged, time.perf_counter() - began)

    def _key(self, text: pl.Expr) -> pl.Expr:
        """Collapse white space, and drop what the settings say doesn't matter."""
        key = text.str.normalize("NFKC")
        if self.ignore_case:
            key = key.str.to_lowercase()
        if self.ignore_punctuation:
            key = key.str.replace_all(r"[^\p{L}\p{N}\s]", "")
        return key.str.replace_all(r"\s+", "" if self.ignore_space else " ").str.strip_chars()
