"""Writing one's own: a function as verifier, in processes that can be killed, and a function as operator."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import polars as pl
import pytest

from cluster.tools.processes import ProcessWorkers
from operators import operator, operator_class
from operators.verify.function import VerifyFunction
from schemas.contract import conform, validate
from schemas.datasets import Answer, Sample, Verdict
from schemas.errors import BadInput
from tests import own


@pytest.fixture(scope="module")
def workers() -> Iterator[ProcessWorkers]:
    with ProcessWorkers(1, preload=()) as pool:
        yield pool


def judged(
    workers: ProcessWorkers, name: str, answer: str | None, *completions: str, **settings: object
) -> pl.DataFrame:
    verifier = VerifyFunction.model_validate({"function": f"tests.own:{name}", **settings})
    count = len(completions)
    rows = pl.DataFrame(
        {
            "problem_id": ["p"] * count,
            "sample_index": range(count),
            "completion": completions,
            "status": ["error" if text == "failed" else "ok" for text in completions],
        }
    )
    problem = {
        "problem_id": "p",
        "prompt": "Q?",
        "answer": answer,
        "task_type": "t",
        "verification": '{"even": true}',
        "metadata": '{"level": 3}',
    }
    problems = conform(pl.DataFrame([problem]), verifier.inputs["problems"], "problems")
    verifier.check_problems(problems)
    samples = conform(rows, verifier.inputs["samples"], "samples")
    return validate(verifier.run(samples=samples, problems=problems, workers=workers), Verdict, "verify")


def test_a_truth_value_judges_what_stands_outside_of_thinking(workers: ProcessWorkers) -> None:
    found = judged(workers, "ends_in", "7", "it is 7", "8", "<think>8</think>7", "failed", "it is 7")
    assert found["is_correct"].to_list() == [True, False, True, None, True]
    assert found["credit"].to_list() == [1.0, 0.0, 1.0, None, 1.0]
    assert found["status"].to_list() == ["ok", "ok", "ok", "skipped", "ok"]
    assert found["answer_key"].to_list() == ["7", "8", "7", None, "7"]
    assert found["verifier"].unique().to_list() == ["verify.function"]


def test_a_score_is_the_credit_and_right_from_the_threshold(workers: ProcessWorkers) -> None:
    found = judged(workers, "share", "4", "x", "xx", "xxx", "", threshold=0.75)
    assert found["credit"].to_list() == [0.25, 0.5, 0.75, 0.0]
    assert found["is_correct"].to_list() == [False, False, True, False]
    assert judged(workers, "share", "4", "xx")["is_correct"].to_list() == [True]


def test_a_key_tells_which_answers_are_the_same(workers: ProcessWorkers) -> None:
    found = judged(workers, "last_word", "Paris", "It is Paris", "In PARIS", "Rome")
    assert found["answer_key"].to_list() == ["paris", "paris", "rome"]
    assert found["is_correct"].to_list() == [True, False, False]


def test_it_is_given_the_whole_problem(workers: ProcessWorkers) -> None:
    assert judged(workers, "of_problem", None, "anything")["is_correct"].to_list() == [True]


def test_what_is_no_verdict_says_so_and_costs_itself_alone(workers: ProcessWorkers) -> None:
    texts = ("raise", "hang", "none", "text", "many", "big", "nan", "fine")
    found = judged(workers, "odd_ones", "1", *texts, timeout=1.0)
    status = dict(zip(texts, found["status"], strict=True))
    assert status == {
        **dict.fromkeys(("raise", "text", "many", "big", "nan"), "error"),
        "hang": "timeout",
        "none": "unparseable",
        "fine": "ok",
    }
    right = dict(zip(texts, found["is_correct"], strict=True))
    assert right == {**dict.fromkeys(("raise", "hang", "text", "many", "big", "nan")), "none": False, "fine": True}
    detail = dict(zip(texts, found["detail"], strict=True))
    assert detail["raise"] == "ValueError: can't read it"
    assert "a score is from 0 to 1" in str(detail["big"]) and "3 values" in str(detail["many"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tests.own:nothing", "has no 'nothing'"),
        ("tests.owm:check", "No module named 'tests.owm'"),
        ("tests.own:takes_too_much", "must take"),
        ("tests.own:__name__", "not a function"),
    ],
)
def test_what_cannot_be_called_is_refused_before_anything_is_sampled(name: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        VerifyFunction(function=name).check_problems(pl.DataFrame())


def test_another_text_makes_another_verifier() -> None:
    one, other = (VerifyFunction(function=f"tests.own:{name}") for name in ("share", "last_word"))
    assert one.fingerprint()["source"] != other.fingerprint()["source"]
    assert one.id() == VerifyFunction(function="tests.own:share", limits=one.limits).id()
    assert one.tools == ("workers",) and VerifyFunction(function="tests.own:share", sandbox=True).tools == ("sandbox",)


def test_a_decorated_function_is_an_operator() -> None:
    made = operator_class("tests.own:longest")
    assert made is own.longest and made.public_name() == "tests.own:longest"
    assert (made.version, made.scope, made.output, made.__doc__) == (
        3,
        "problem",
        Answer,
        "Trust the longest completion.",
    )
    samples = pl.DataFrame({"problem_key": ["k"] * 2, "problem_id": ["p"] * 2, "completion": ["a", "bcd"]})
    longest = made(least=2)  # type: ignore[call-arg]
    table = validate(longest.run(samples=samples), Answer, "test")
    assert table["answer"].to_list() == ["bcd"] and table["confidence"].dtype == pl.Float64
    assert pickle.loads(pickle.dumps(longest)) == longest
    assert longest.fingerprint() == {"operator": "tests.own:longest", "version": 3, "least": 2}
    with pytest.raises(ValueError, match="lest"):
        made(lest=2)  # type: ignore[call-arg]


def test_a_decorator_refuses_what_it_cannot_make_sense_of() -> None:
    decorate = operator(version=1, scope="problem", inputs={"samples": Sample.select("completion")}, output=Answer)
    with pytest.raises(TypeError, match="doesn't take its inputs"):
        decorate(lambda: None)
    with pytest.raises(TypeError, match="say the type of its setting 'least'"):
        decorate(lambda samples, least=1: None)
