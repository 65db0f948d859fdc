"""Mathematical answers: math-verify behind a front of our own.

An answer is extracted from each completion, and each *distinct* answer is brought to a canonical key once; keys are
then compared with the expected answer, again once per distinct pair: 10,000 samples with 150 distinct answers cost 150
comparisons. Plain numbers never reach the computer algebra system; what does runs in processes that are killed when
they don't return.
"""

from __future__ import annotations

import time
from fractions import Fraction
from typing import ClassVar

import polars as pl
from pydantic import Field

from operators.base import Operator
from operators.thinking import answers_only
from operators.verify.canonical import LONGEST, cheap_key, meanings, read_number, text_key
from operators.verify.extract import DEFAULT_RULES, Rule
from operators.verify.symbolic import equivalent, symbolic_key
from operators.verify.verdicts import SAMPLES, join_answers, predicted, verdicts
from operators.workers import TimedOut, WorkerFailed, WorkerPool
from schemas.datasets import Problem, Verdict


class VerifyMath(Operator):
    """Compare the extracted answer with the problem's, numerically and symbolically.

    Statuses: ``unparseable`` (no answer found: wrong), ``timeout`` (killed: neither right nor wrong), ``error`` (the
    comparison raised), ``skipped`` (the sample itself failed). A problem without an answer gives keys and no judgement.
    """

    version: ClassVar[int] = 3
    scope = "sample"
    inputs = {
        "samples": SAMPLES,
        "problems": Problem.select("problem_key", "messages", "answer"),
    }
    output = Verdict
    tools = ("workers",)

    extract: tuple[Rule, ...] = DEFAULT_RULES
    """Where to look for the answer, in order."""
    pattern: str | None = None
    """A regular expression with one group, instead of ``extract``."""
    timeout: float = Field(default=5.0, gt=0.0)
    """Seconds a single parse or comparison may take."""
    float_rounding: int = Field(default=6, ge=1)
    """Decimals that inexact numbers are compared to."""

    def run(self, samples: pl.DataFrame, problems: pl.DataFrame, workers: WorkerPool) -> pl.DataFrame:
        began = time.perf_counter()
        samples = answers_only(samples, problems)
        found = predicted(samples, problems.select("problem_key", "answer"), self.extract, self.pattern)
        answers = found.filter(pl.col("predicted_answer").is_not_null()).select("predicted_answer").unique()
        keys = self._keys(answers["predicted_answer"].to_list(), workers)
        found = join_answers(found, keys)
        judged = self._judge(found, workers)
        return verdicts(self, found, judged, time.perf_counter() - began)

    def _keys(self, answers: list[str], workers: WorkerPool) -> pl.DataFrame:
        """Return predicted_answer -> answer_key, key_status and approximate value for each distinct answer."""
        keys: list[str | None] = [cheap_key(answer) for answer in answers]
        values: list[float | None] = [None] * len(answers)
        hard = [index for index, key in enumerate(keys) if key is None]
        statuses = ["ok"] * len(answers)
        results = workers.map(symbolic_key, [(answers[index],) for index in hard], self.timeout)
        for index, result in zip(hard, results, strict=True):
            if isinstance(result, TimedOut | WorkerFailed):
                # as text it still groups with its equals; only a parse that hung says so
                keys[index] = text_key(answers[index])
                statuses[index] = "timeout" if isinstance(result, TimedOut) else "ok"
            else:
                keys[index], values[index] = result
        schema = {"predicted_answer": pl.String, "answer_key": pl.String, "key_status": pl.String, "value": pl.Float64}
        columns = {"predicted_answer": answers, "answer_key": keys, "key_status": statuses, "value": values}
        return pl.DataFrame(columns, schema=schema)

    def _judge(self, found: pl.DataFrame, workers: WorkerPool) -> pl.DataFrame:
        """Return (answer, answer_key) -> is_correct, judged_status, detail for each distinct pair."""
        usable = pl.col("answer").is_not_null() & pl.col("answer_key").is_not_null()
        # keys are canonical, so one spelling of each stands for all of them
        pairs = found.filter(usable).group_by("answer", "answer_key", maintain_order=True).first()
        golds, keys = pairs["answer"].to_list(), pairs["answer_key"].to_list()
        spellings = pairs["predicted_answer"].to_list()
        results = [self._cheaply(gold, key) for gold, key in zip(golds, keys, strict=True)]
        statuses = [
            "ok" if result is not None else state for result, state in zip(results, pairs["key_status"], strict=True)
        ]
        details: list[str | None] = [None] * len(results)

        def open_pairs() -> list[int]:
            return [index for index, result in enumerate(results) if result is None and statuses[index] == "ok"]

        for index in open_pairs():
            if max(len(golds[index]), len(spellings[index])) > LONGEST:
                results[index] = False  # as texts they differ, and nobody reads on
        # a gold is read once: one that hangs costs one limit, not one for each answer
        known = self._keys(sorted({golds[index] for index in open_pairs()}), workers)
        of_golds = {gold: (key, status, value) for gold, key, status, value in known.iter_rows()}
        values = pairs["value"].to_list()
        for index in open_pairs():
            key, status, value = of_golds[golds[index]]
            if status == "timeout":
                statuses[index], details[index] = "timeout", "the expected answer can't be read in time"
            elif key == keys[index]:
                results[index] = True
            elif _far_apart(_value(key, value), _value(keys[index], values[index])):
                results[index] = False
        hard = open_pairs()
        calls = [(golds[index], spellings[index], self.float_rounding) for index in hard]
        for index, result in zip(hard, workers.map(equivalent, calls, self.timeout), strict=True):
            if isinstance(result, TimedOut):
                statuses[index] = "timeout"
            elif isinstance(result, WorkerFailed):
                statuses[index], details[index] = "error", result.message
            else:
                results[index] = result
        return pl.DataFrame(
            {"answer": golds, "answer_key": keys, "is_correct": results, "judged_status": statuses, "detail": details},
            schema={
                "answer": pl.String,
                "answer_key": pl.String,
                "is_correct": pl.Boolean,
                "judged_status": pl.String,
                "detail": pl.String,
            },
        )

    def _cheaply(self, gold: str, key: str) -> bool | None:
        """Judge a pair without parsing: equal keys, or two plain numbers; None where that can't tell."""
        expected = cheap_key(gold)
        if expected == key or text_key(gold) == key:
            return True
        if expected is not None and "_" in expected and "_" in key:
            return False  # numerals of different bases or digits
        left, right = read_number(gold), read_number(key)
        if left is None or right is None:
            return None
        return any(self._agree(one, other) for one in meanings(left) for other in meanings(right))

    def _agree(self, left: Fraction, right: Fraction) -> bool:
        if left == right:
            return True
        exact = left.denominator == 1 or right.denominator == 1
        return not exact and round(left, self.float_rounding) == round(right, self.float_rounding)


def _value(key: str, value: float | None) -> float | None:
    """Return the approximate value of a key: a plain number's own, or what its parser told."""
    number = read_number(key) if value is None else None
    if number is None or number[1] or abs(number[0]) > 1e300:
        return value
    return float(number[0])


def _far_apart(left: float | None, right: float | None) -> bool:
    """Whether two numbers differ by so much that nothing has to be simplified to tell."""
    return left is not None and right is not None and abs(left - right) > 0.01 * (1 + abs(left))
