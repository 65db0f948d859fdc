"""Functions as users write them: verifiers, and an operator."""

from __future__ import annotations

import time
from typing import Any

import polars as pl

from jobs.api import verifier
from operators import operator
from schemas.datasets import Answer, Sample


def ends_in(completion: str, answer: str, problem: dict[str, Any]) -> bool:
    print("what it prints is nobody's verdict")
    return completion.endswith(answer)


def share(text: str, gold: str) -> float:
    return text.count("x") / int(gold)


def last_word(completion: str, answer: str) -> tuple[str, bool]:
    word = completion.split()[-1]
    return word.lower(), word == answer


def of_problem(problem: dict[str, Any]) -> bool:
    return problem["verification"]["even"] and problem["metadata"]["level"] == 3 and problem["prompt"] == "Q?"


def odd_ones(completion: str) -> Any:
    answers = {"none": None, "text": "yes", "many": (1, 2, 3), "big": 7.5, "nan": float("nan")}
    if completion == "raise":
        raise ValueError("can't read it")
    if completion == "hang":
        time.sleep(60)
    return answers.get(completion, 1)


def takes_too_much(one: str, two: str, three: str, four: str) -> bool:
    return True


@operator(
    version=3,
    scope="problem",
    inputs={"samples": Sample.select("problem_key", "problem_id", "completion")},
    output=Answer,
)
def longest(samples: pl.DataFrame, *, least: int = 1) -> pl.DataFrame:
    """Trust the longest completion."""
    length = pl.col("completion").str.len_chars()
    rows = samples.filter(length >= least).sort(length).group_by("problem_key", maintain_order=True).last()
    return rows.select(
        "problem_key",
        "problem_id",
        method=pl.lit("longest"),
        answer="completion",
        answer_class=None,
        confidence=pl.lit(1),
        n_samples=pl.lit(len(samples)),
        runner_up=None,
        runner_up_confidence=None,
        is_correct=None,
    )


@verifier(timeout=5.0)
def ends_well(completion: str, answer: str) -> bool:
    """A verifier of one's own, made by the decorator."""
    return completion.strip().endswith(answer)
