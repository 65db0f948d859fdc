"""verify.choice, verify.procedure, verify.judge, verify.rest and compositions of verifiers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest

from cluster.records.timeline import Timeline
from cluster.working.desk import Desk, Meter
from operators.base import Operator
from operators.engine import Completion, Engine, EngineError, EngineInfo, Request
from operators.verify.choice import VerifyChoice
from operators.verify.compose import VerifyAllOf, VerifyAnyOf, VerifyByTask, VerifyCascade
from operators.verify.exact import VerifyExact
from operators.verify.judge import VerifyJudge
from operators.verify.math import VerifyMath
from operators.verify.procedure import VerifyProcedure, prefix_share, read_steps
from operators.verify.rest import VerifyRest, cut_parts
from schemas.contract import polars_schema, validate
from schemas.datasets import Problem, Sample, Verdict
from schemas.errors import BadInput


def problems(**columns: list[Any]) -> pl.DataFrame:
    size = len(next(iter(columns.values())))
    keys = [f"p{number}" for number in range(size)]
    table = {"problem_key": keys, "problem_id": keys, "prompt": ["?"] * size, "task_type": ["math"] * size, **columns}
    schema = polars_schema(Problem)
    return pl.DataFrame({name: table.get(name, [None] * size) for name in schema}, schema=schema)


def samples(*rows: tuple[int, str]) -> pl.DataFrame:
    """Return samples of (number of the problem, completion)."""
    table = pl.DataFrame(
        {"problem_key": [f"p{number}" for number, _ in rows], "completion": [text for _, text in rows]}
    )
    table = table.with_columns(sample_index=pl.int_range(pl.len()).over("problem_key"), problem_id="problem_key")
    schema = polars_schema(Sample)
    missing = {name: pl.lit(None, dtype=dtype) for name, dtype in schema.items() if name not in table.columns}
    return table.with_columns(**missing).with_columns(status=pl.lit("ok")).select(list(schema))


def verify(operator: Operator, drawn: pl.DataFrame, asked: pl.DataFrame, **tools: Any) -> pl.DataFrame:
    tables = {"samples": drawn, "problems": asked}
    given = {name: tables[name].select(columns.names) for name, columns in operator.inputs.items()}
    found = operator.run(**given, **tools)
    validate(found, Verdict, "test")
    return found


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("So the answer is (B).", "B"),
        ("The correct answer is B", "B"),
        ("Answer: C) because A is wrong", "C"),
        (r"Thus \boxed{D}", "D"),
        (r"\boxed{\text{(A)}}", "A"),
        ("<answer>C</answer>", "C"),
        ("I first thought the answer is A. But no: the answer is B.", "B"),
        ("Compare all.\nB", "B"),
        ("**Answer:** **C**", "C"),
        ("It is (D)", "D"),
        ("A dog is an animal.", None),
        ("The answer is a matter of taste", None),
        ("The answer is J", None),
        ("It must be Rome", "C"),
        ("Paris or Rome", None),
        ("", None),
    ],
)
def test_choice_finds_the_letter(text: str, letter: str | None) -> None:
    asked = problems(answer=["B"], verification=[json.dumps({"choices": ["Paris", "Berlin", "Rome", "Oslo"]})])
    [found] = verify(VerifyChoice(), samples((0, text)), asked).to_dicts()
    assert found["predicted_answer"] == letter
    assert found["is_correct"] is (letter == "B")
    assert found["status"] == ("ok" if letter else "unparseable")


def test_choice_knows_the_right_one_by_letter_text_or_position() -> None:
    choices = {"choices": ["Paris", "Berlin", "Rome"]}
    asked = problems(
        answer=["(c)", "Rome.", None, None],
        verification=[json.dumps({**choices, **more}) for more in ({}, {}, {"choice": 2}, {})],
    )
    found = verify(VerifyChoice(), samples(*[(number, "The answer is C") for number in range(4)]), asked)
    assert found["is_correct"].to_list() == [True, True, True, None]
    with pytest.raises(BadInput, match="problem 'p0': its answer 'Madrid' is neither a letter of A-C"):
        verify(VerifyChoice(), samples((0, "C")), problems(answer=["Madrid"], verification=[json.dumps(choices)]))


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ('Here: ["ab", "ba"]', ["ab", "ba"]),
        ('```json\n["a", [1, 2]]\n```\nand [x]', ["a", [1, 2]]),
        ("1. first\n2) second\nStep 3: third", ["first", "second", "third"]),
        ("first\n\nsecond", ["first", "second"]),
        ("", None),
    ],
)
def test_steps_are_read(text: str, steps: list[Any] | None) -> None:
    assert read_steps(text) == steps


def test_procedure_gives_credit_for_the_prefix() -> None:
    """ProcBench: the longest correct prefix over the longer list."""
    asked = problems(answer=['["a", "b", "c", "d"]', None], verification=[None, json.dumps({"steps": ["x", 1]})])
    texts = ['["A", " b", "c", "d"]', '["a", "b", "x", "d"]', '["a", "b"]', '["a", "b", "c", "d", "e"]', "nothing"]
    found = verify(VerifyProcedure(), samples(*[(0, text) for text in texts], (1, "1. x\n2. 1")), asked)
    assert found["credit"].to_list() == [1.0, 0.5, 0.5, 0.8, 0.0, 1.0]
    assert found["is_correct"].to_list() == [True, False, False, False, False, True]
    assert found["detail"][1] == "2 of 4 steps"
    assert prefix_share(["a"], ["b"]) == (0, 1)
    with pytest.raises(BadInput, match=r"problem 'p0': verification.steps must be a list"):
        verify(VerifyProcedure(), samples((0, "x")), problems(verification=[json.dumps({"steps": "x"})]))


class Judge(Engine):
    """Says what ``words`` says for a prompt; fails transiently the first time."""

    capacity = 4
    info = EngineInfo("judge", "1", "test", 1000, "none")

    def __init__(self, words: Any, flaky: bool = False) -> None:
        self.words, self.flaky = words, flaky
        self.requests: list[Request] = []

    async def render(
        self, messages: Sequence[dict[str, str]], *, chat: bool = True, answered: bool = False, tools: Any = ()
    ) -> str:
        return messages[-1]["content"]

    async def count_tokens(self, prompt: str) -> int:
        return len(prompt)

    async def generate(self, request: Request) -> list[Completion]:
        await asyncio.sleep(0)
        self.requests.append(request)
        if self.flaky and len(self.requests) == 1:
            raise EngineError("try again", transient=True)
        text = self.words(request)
        if isinstance(text, Exception):
            raise text
        return [Completion(text, "stop", 1, 1)]

    async def close(self) -> None:
        pass


def test_judge_goes_with_the_majority_and_counts_votes() -> None:
    def words(request: Request) -> str:
        if "tie" in request.prompt:
            return "VERDICT: SAME" if request.request_id.endswith("/0") else "VERDICT: DIFFERENT"
        if "mumble" in request.prompt:
            return "hm"
        return "At first DIFFERENT... VERDICT: SAME" if "six" in request.prompt else "VERDICT: DIFFERENT"

    engine = Judge(words, flaky=True)
    rows = samples((0, "six"), (0, "six"), (0, "seven"), (0, "tie"), (0, "mumble"), (0, " "))
    desk = Desk(engine, Meter(Timeline(""), None), retries=4)
    found = verify(VerifyJudge(votes=2), rows, problems(answer=["6"]), engine=desk)
    assert found["is_correct"].to_list() == [True, True, False, None, None, False]
    assert found["credit"].to_list() == [1.0, 1.0, 0.0, 0.5, None, None]
    assert found["status"].to_list() == ["ok", "ok", "ok", "unparseable", "unparseable", "unparseable"]
    assert found["detail"].to_list()[:5] == ["2 of 2 votes"] * 2 + [
        "0 of 2 votes",
        "1 of 2 votes",
        "0 of 0 votes; 2 unreadable",
    ]
    assert len(engine.requests) == 4 * 2 + 1  # distinct texts, two votes each, one tried again
    prompts = {request.prompt for request in engine.requests if "six" in request.prompt}
    assert len(prompts) == 2  # places swapped
    assert all(prompt.index("6") != prompt.index("six") for prompt in prompts)
    assert len({request.seed for request in engine.requests}) == 8


def test_judge_of_an_open_problem_and_failures() -> None:
    engine = Judge(lambda request: EngineError("too long") if "long" in request.prompt else "VERDICT: RIGHT")
    found = verify(VerifyJudge(votes=1), samples((0, "fine"), (0, "long")), problems(answer=[None]), engine=engine)
    assert found["is_correct"].to_list() == [True, None]
    assert found["status"].to_list() == ["ok", "error"]
    assert found["detail"][1] == "0 of 0 votes; 1 failed: too long"


def test_judge_template_fills_only_its_places() -> None:
    [turn] = VerifyJudge().conversation({"prompt": "{first} {x}", "answer": "{second}"}, "{prompt}", 0)
    assert "{first} {x}" in turn["content"] and "{second}" in turn["content"] and "{prompt}" in turn["content"]
    with pytest.raises(ValueError, match="must contain"):
        VerifyJudge(template="no places")


EXACT = {"operator": "verify.exact"}
CASES = [("yes", True), ("no", False)]


def exact(pattern: str) -> dict[str, Any]:
    return {**EXACT, "pattern": pattern}


def test_by_task_uses_the_verifier_of_each_type() -> None:
    asked = problems(answer=["B", "4"], task_type=["choice", "other"])
    operator = VerifyByTask(verifiers={"choice": {"operator": "verify.choice"}, "*": EXACT})  # type: ignore[arg-type]
    found = verify(operator, samples((1, "4"), (0, "The answer is B"), (1, "5")), asked)
    assert found["is_correct"].to_list() == [True, True, False]
    assert found["verifier"].unique().to_list() == ["verify.by_task"]
    assert found["detail"].to_list() == ["verify.exact", "verify.choice", "verify.exact"]
    with pytest.raises(BadInput, match=r"no verifier for task_type \['other'\]"):
        strict = VerifyByTask(verifiers={"choice": EXACT})  # type: ignore[arg-type]
        verify(strict, samples((1, "4")), asked)


def test_all_of_and_any_of_ask_no_more_than_they_need() -> None:
    asked = problems(answer=["yes"])
    rows = samples((0, "a=yes b=yes"), (0, "a=no b=yes"), (0, "a=yes b=no"), (0, "a=no b=no"), (0, "nothing"))
    both = (exact(r"a=(\w+)"), exact(r"b=(\w+)"))
    every = verify(VerifyAllOf(verifiers=both), rows, asked)  # type: ignore[arg-type]
    assert every["is_correct"].to_list() == [True, False, False, False, False]
    some = verify(VerifyAnyOf(verifiers=both), rows, asked)  # type: ignore[arg-type]
    assert some["is_correct"].to_list() == [True, True, True, False, False]
    assert some["verifier"].unique().to_list() == ["verify.any_of"]


def test_cascade_sends_on_what_is_in_doubt() -> None:
    engine = Judge(lambda request: "VERDICT: SAME" if "forty-two" in request.prompt else "VERDICT: DIFFERENT")
    operator = VerifyCascade(verifiers=({"operator": "verify.exact"}, {"operator": "verify.judge", "votes": 1}))  # type: ignore[arg-type]
    assert operator.tools == ("engine",)
    rows = samples((0, "42"), (0, "forty-two"), (0, "17"))
    found = verify(operator, rows, problems(answer=["42"]), engine=engine)
    assert found["is_correct"].to_list() == [True, True, False]
    assert found["detail"].to_list() == ["verify.exact", "verify.judge: 1 of 1 votes", "verify.judge: 0 of 1 votes"]
    assert len(engine.requests) == 2
    other = VerifyCascade(verifiers=operator.verifiers, doubts=("accepted",))
    found = verify(other, rows, problems(answer=["42"]), engine=Judge(lambda request: "VERDICT: DIFFERENT"))
    assert found["is_correct"].to_list() == [False, False, False]


def test_a_part_counts_in_a_composition_s_identity() -> None:
    one = VerifyAnyOf(verifiers=(VerifyExact(),))
    assert one.fingerprint()["verifiers"][0] == {**VerifyExact().fingerprint()}
    assert one.id() != VerifyAnyOf(verifiers=(VerifyExact(ignore_case=False),)).id()
    assert one.id() != VerifyAnyOf(verifiers=(VerifyChoice(),)).id()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Problem 1: 4\nProblem 2: 5", ["4\n", "5"]),
        ("1. four\n2. five", ["four\n", "five"]),
        ("**Question 1.** a\n1. x\n**Question 2:** b", ["a\n1. x\n", "b"]),
        (r"first \boxed{4}, then \boxed{\frac{1}{2}}", [r"\boxed{4}", r"\boxed{\frac{1}{2}}"]),
        (r"only \boxed{4}", [r"\boxed{4}", ""]),
        ("nothing", ["", ""]),
    ],
)
def test_a_completion_is_cut_into_its_parts(text: str, parts: list[str]) -> None:
    assert cut_parts(text, 2) == parts


def test_rest_judges_every_part() -> None:
    about = {"rest": [{"problem_id": "a", "answer": 4}, {"problem_id": "b", "answer": "5"}]}
    rows = samples((0, "Problem 1: 4\nProblem 2: 5"), (0, "Problem 1: 4\nProblem 2: 6"), (0, r"\boxed{5}"))
    found = verify(VerifyRest(verifier=VerifyExact()), rows, problems(verification=[json.dumps(about)]))
    whole = found.filter(pl.col("verifier") == "verify.rest")
    assert whole["credit"].to_list() == [1.0, 0.5, 0.0]
    assert whole["is_correct"].to_list() == [True, False, False]
    assert whole["detail"].to_list() == ["2 of 2 right", "1 of 2 right", "0 of 2 right"]
    second = found.filter(pl.col("verifier") == "verify.rest/2")
    assert second["problem_id"].to_list() == ["b"] * 3
    assert second["is_correct"].to_list() == [True, False, False]
    with pytest.raises(BadInput, match=r"problem 'p0': verification.rest must be a list"):
        verify(VerifyRest(verifier=VerifyExact()), rows, problems(answer=["4"]))


def test_exact_takes_any_of_several_golds_or_all_of_them() -> None:
    """``any`` wants one; ``all`` wants each once, in any order and in any of its writings."""
    several = [{"any": ["red", "crimson"]}, {"all": [["red", "crimson"], "blue"]}]
    asked = problems(answer=["red", None], verification=[json.dumps({"answers": one}) for one in several])
    texts = ["Crimson", "blue", "blue, red", "crimson and blue", "red, crimson", "red, blue, blue"]
    drawn = samples(*[(number, text) for number in (0, 1) for text in texts])
    found = verify(VerifyExact(), drawn, asked)["is_correct"].to_list()
    assert found == [True, False, False, False, False, False, False, False, True, True, False, False]


@pytest.mark.parametrize(
    "bad", [{"answers": ["3"]}, {"answers": {"some": ["3"]}}, {"answers": {"any": []}}, {"answers": {"any": [" "]}},
            {"answers": {"any": [["3", "4"]]}}, {"answers": {"all": [True]}}, {"math": {"tolerance": -1}},
            {"math": {"tolerance": {"percent": 5}}}, {"math": {"tolerance": "near"}}, {"math": 3},
            {"math": {"tolerance": [0.1, 0.2]}}, {"math": {"tolerance": []}}, {"math": {"tolerance": [True]}},
            {"answers": {"all": ["3", "4"]}, "math": {"tolerance": [1, 2, 3]}},
            {"answers": {"any": ["3", "4"]}, "math": {"tolerance": [1, 2]}},
            {"answers": {"all": ["3", "4"]}, "math": {"tolerance": {"absolute": [1, 2], "relative": [1, 2, 3]}}}]
)  # fmt: skip
def test_golds_of_another_shape_are_refused_by_name(bad: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"problem 'p0': .*verification"):
        VerifyMath().check_problems(problems(answer=["3"], verification=[json.dumps(bad)]))
