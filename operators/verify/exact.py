"""Exact answers: normalised strings compared for equality. Multiple choice by letter, labels, short words."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Annotated, ClassVar

from operators.base import Operator
from operators.thinking import answers_only
from operators.verify.extract import Rule
from operators.verify.golds import Golds, check_golds, golds_of
from operators.verify.reading.matching import matches
from operators.verify.verdicts import SAMPLES, join_answers, predicted, verdicts
from schemas.datasets import Problem, Verdict
from schemas.identity import Added
from schemas.later import pl

_FONT = r"\\(?:text|textbf|textit|textrm|textsf|mathrm|mathbf|mathit|mbox)\s*\{([^{}]*)\}"
_SIGNS = {r"[\x{2010}-\x{2015}\x{2212}]": "-", r"[\x{2018}\x{2019}]": "'", r"[\x{201c}\x{201d}]": '"'}


class VerifyExact(Operator):
    """Compare the extracted answer with the problem's as text.

    Of several golds (``operators.verify.golds``) any one will do; where all are asked, the answer gives them in any
    order, with commas, semicolons, line breaks or "and" between.
    """

    version: ClassVar[int] = 2
    scope = "sample"
    inputs = {
        "samples": SAMPLES,
        "problems": Problem.select("problem_key", "problem_id", "messages", "answer", "verification"),
    }
    output = Verdict
    compares = True

    extract: tuple[Rule, ...] = ("tag", "boxed", "hashes", "phrase", "whole")
    """Where a completion's answer is looked for, the first place that has one (``operators.verify.extract``)."""
    pattern: str | None = None
    """A regular expression with one group, instead of ``extract``."""
    ignore_case: bool = True
    """Upper and lower case are the same."""
    ignore_punctuation: bool = False
    """Compare letters, digits and spaces only."""
    ignore_space: Annotated[bool, Added] = False
    """Compare without white space."""

    def run(self, samples: pl.DataFrame, problems: pl.DataFrame) -> pl.DataFrame:
        began = time.perf_counter()
        samples = answers_only(samples, problems)
        golds = {row["problem_key"]: golds_of(row) for row in problems.iter_rows(named=True)}
        named = {key: repr(gold) for key, gold in golds.items() if gold.known}
        schema = {"problem_key": pl.String, "answer": pl.String}
        expected = pl.DataFrame({"problem_key": list(named), "answer": list(named.values())}, schema=schema)
        found = predicted(samples, expected, self.extract, self.pattern)
        answers = found.select("predicted_answer").drop_nulls().unique()
        keys = answers.with_columns(answer_key=self._key(pl.col("predicted_answer")), key_status=pl.lit("ok"))
        found = join_answers(found, keys)
        known = {repr(gold): gold for gold in golds.values()}
        pairs = found.filter(pl.col("answer").is_not_null() & pl.col("answer_key").is_not_null())
        pairs = pairs.group_by("answer", "answer_key", maintain_order=True).agg(pl.col("predicted_answer").first())
        one = [(name, text) for name, gold in known.items() for text in gold.any]
        right = pl.DataFrame(one, schema={"answer": pl.String, "answer_key": pl.String}, orient="row")
        right = right.with_columns(self._key(pl.col("answer_key"))).unique().with_columns(right=pl.lit(True))
        # a loop over what was answered where all of several golds are asked
        every = [self._all(known[name], text) for name, _, text in pairs.iter_rows()]
        judged = pairs.join(right, on=["answer", "answer_key"], how="left", maintain_order="left").with_columns(
            is_correct=pl.col("right").fill_null(False) | pl.Series(every, dtype=pl.Boolean),
            judged_status=pl.lit("ok"),
            detail=pl.lit(None, dtype=pl.String),
        )
        judged = judged.select("answer", "answer_key", "is_correct", "judged_status", "detail")
        return verdicts(self, found, judged, time.perf_counter() - began)

    def check_problems(self, problems: pl.DataFrame) -> None:
        check_golds(problems)

    def _all(self, golds: Golds, answer: str) -> bool:
        """Return whether an answer gives all golds, one to one."""
        if not golds.all:
            return False
        given = self._keys([part for part in re.split(r"[,;\n]|\band\b", answer) if part.strip()])
        writings = [self._keys(member) for member in golds.all]
        return len(given) == len(writings) and matches([[one in member for one in given] for member in writings])

    def _keys(self, texts: Iterable[str]) -> list[str]:
        return (
            pl.DataFrame({"text": list(texts)}, schema={"text": pl.String})
            .select(self._key(pl.col("text")))["text"]
            .to_list()
        )

    def _key(self, text: pl.Expr) -> pl.Expr:
        """Return a text in one spelling, without emphasis, LaTeX's fonts, quotation marks and a stop at the end.

        White space is collapsed, and what the settings say doesn't matter is dropped.
        """
        bare = text.str.normalize("NFKC").str.replace_all(_FONT, "$1").str.replace_all(r"\*\*|__|`|\$", "")
        for written, sign in _SIGNS.items():
            bare = bare.str.replace_all(written, sign)
        bare = bare.str.strip_chars().str.replace(r"^([\"'])(.*?)[.!]?([\"'])[.!]?$", "$2")
        bare = bare.str.strip_chars().str.replace(r"([^.!\s])\s*[.!。]+$", "$1")
        key = pl.when(bare == "").then(text.str.normalize("NFKC")).otherwise(bare)
        if self.ignore_case:
            key = key.str.to_lowercase()
        if self.ignore_punctuation:
            key = key.str.replace_all(r"[^\p{L}\p{N}\s]", "")
        return key.str.replace_all(r"\s+", "" if self.ignore_space else " ").str.strip_chars()
