"""Verdicts: forms of the same answer, wrong ones that look alike, and what is said when nothing can be."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pytest

from cluster.tools.processes import ProcessWorkers
from operators.load import Load
from operators.verify.exact import VerifyExact
from operators.verify.math import VerifyMath
from operators.verify.reasoning_gym import VerifyReasoningGym
from schemas.contract import validate
from schemas.datasets import Verdict


@pytest.fixture(scope="module")
def workers() -> Iterator[ProcessWorkers]:
    with ProcessWorkers(2) as pool:
        yield pool


def samples(completions: list[str], problem: str = "p", status: str = "ok") -> pl.DataFrame:
    count = len(completions)
    return pl.DataFrame(
        {
            "problem_key": [problem] * count,
            "sample_index": range(count),
            "problem_id": [problem] * count,
            "completion": completions,
            "status": [status] * count,
        },
        schema_overrides={"sample_index": pl.Int64},
    )


def problems(answer: str | None) -> pl.DataFrame:
    return pl.DataFrame({"problem_key": ["p"], "answer": [answer]}, schema_overrides={"answer": pl.String})


def judge(gold: str | None, completions: list[str], workers: ProcessWorkers) -> pl.DataFrame:
    verdicts = VerifyMath().run(samples=samples(completions), problems=problems(gold), workers=workers)
    return validate(verdicts, Verdict, "verify")


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        ("1000", ["1000", "1,000", "1000.0", "$1000$", r"10^3", "1000 "], ["100", "1001", "10000", "-1000"]),
        (r"\frac{1}{2}", ["1/2", "0.5", r"\dfrac12", r"\frac{2}{4}", "50/100"], ["2", "1", "0.51", r"\frac{1}{3}"]),
        ("-3", ["-3", r"\frac{-6}{2}", "-3.0"], ["3", "-30"]),
        (r"2\sqrt{3}", [r"2\sqrt{3}", r"\sqrt{12}"], [r"\sqrt{3}", r"3\sqrt{2}"]),
        ("x^2+2x+1", ["(x+1)^2", "1+2x+x^2"], ["x^2+1", "(x-1)^2"]),
        ("(3, 4)", ["(3,4)", r"\left(3, 4\right)"], ["(4,3)", "(3,4,5)"]),
        ("10_2", ["10_2", "10_{2}"], ["10_3"]),
        ("50%", ["50%", r"50\%", "50", "0.5"], ["5", "0.05", "5%"]),
        ("10000000", [r"10\text{ million}", "10,000,000"], ["10"]),
    ],
)
def test_equal_answers_and_answers_that_only_look_alike(
    gold: str, right: list[str], wrong: list[str], workers: ProcessWorkers
) -> None:
    verdicts = judge(gold, [f"so \\boxed{{{answer}}}" for answer in right + wrong], workers)
    said = dict(zip(right + wrong, verdicts["is_correct"], strict=True))
    assert said == {**dict.fromkeys(right, True), **dict.fromkeys(wrong, False)}


def test_the_same_number_has_one_key(workers: ProcessWorkers) -> None:
    keys = judge("1", [f"\\boxed{{{form}}}" for form in ("0.5", "1/2", r"\frac{1}{2}", r"\frac{3}{6}", ".5")], workers)
    assert set(keys["answer_key"]) == {"1/2"}


def test_keys_depend_on_the_answer_alone(workers: ProcessWorkers) -> None:
    forms = [r"\boxed{x+x}", r"\boxed{2x}", r"\boxed{7}"]
    together = judge("1", forms, workers)["answer_key"].to_list()
    assert together == [judge(gold, [form], workers)["answer_key"][0] for gold, form in zip("234", forms, strict=True)]


def test_no_answer_is_wrong_and_a_failed_sample_is_skipped(workers: ProcessWorkers) -> None:
    verdicts = judge("1", ["no idea"], workers)
    assert verdicts.select("status", "is_correct").rows() == [("unparseable", False)]
    skipped = VerifyMath().run(samples=samples([""], status="error"), problems=problems("1"), workers=workers)
    assert skipped.select("status", "is_correct").rows() == [("skipped", None)]


def test_without_an_expected_answer_there_are_keys_and_no_judgement(workers: ProcessWorkers) -> None:
    verdicts = judge(None, [r"\boxed{4/2}"], workers)
    assert verdicts.select("answer_key", "is_correct", "status").rows() == [("2", None, "ok")]


def test_an_answer_that_never_parses_is_killed_and_the_others_are_judged(workers: ProcessWorkers) -> None:
    operator = VerifyMath(timeout=4.0)
    forms = [r"\boxed{9^{9^{9^{9}}}}", r"\boxed{2}", r"\boxed{\sqrt{4}}"]
    verdicts = operator.run(samples=samples(forms), problems=problems("2"), workers=workers)
    assert verdicts.select("status", "is_correct").rows() == [("timeout", None), ("ok", True), ("ok", True)]


def test_rows_in_are_rows_out_for_many_samples(workers: ProcessWorkers) -> None:
    completions = [f"trace {i}: \\boxed{{{i % 200}}}" for i in range(10_000)]
    verdicts = judge("7", completions, workers)
    assert len(verdicts) == 10_000
    assert verdicts["is_correct"].sum() == 50


@pytest.mark.parametrize(
    ("settings", "gold", "completion", "right"),
    [
        ({}, "Paris", "The answer is paris.", True),
        ({"ignore_case": False}, "Paris", "The answer is paris.", False),
        ({"ignore_punctuation": True}, "it's", "<answer>its</answer>", True),
        ({}, "a  b", "a b", True),
        ({}, "a", "b", False),
        ({"pattern": r"\(([A-D])\)"}, "C", "either (A) or (C)", True),
    ],
)
def test_exact(settings: dict[str, object], gold: str, completion: str, right: bool) -> None:
    operator = VerifyExact.model_validate(settings)
    verdicts = validate(operator.run(samples=samples([completion]), problems=problems(gold)), Verdict, "verify")
    assert verdicts["is_correct"].to_list() == [right]


def test_reasoning_gym_scores_with_its_own_scorer(workers: ProcessWorkers) -> None:
    found = Load(source="reasoning_gym:chain_sum", size=1).run()
    key, answer = found["problem_key"][0], found["answer"][0]
    asked = samples([answer, f"<answer>{answer}</answer>", "12345678", ""], problem=key)
    operator = VerifyReasoningGym(timeout=300)
    verdicts = operator.run(
        samples=asked, problems=found.select("problem_key", "answer", "verification"), workers=workers
    )
    validate(verdicts, Verdict, "verify")
    assert verdicts["is_correct"].to_list() == [True, True, False, False]
    assert verdicts["credit"][0] == 1.0
    assert verdicts["status"].to_list() == ["ok", "ok", "ok", "unparseable"]
