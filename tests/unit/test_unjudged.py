"""Where nothing can be judged, that is said before anything is paid."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.config.settings import build_pipeline
from operators.verify.exact import VerifyExact
from pipelines.unjudged import has_answers, refuse_unjudged
from schemas.errors import BadInput
from schemas.later import pl

SOURCE = {"load": {"source": "problems.jsonl"}}
JUDGE = {"kind": "scripted", "answers": ["VERDICT: CORRECT"]}


def refused(name: str, **settings: Any) -> str:
    pipeline, _ = build_pipeline(name, {**SOURCE, **settings})
    with pytest.raises(BadInput) as error:
        refuse_unjudged(pipeline.stages.values())
    return str(error.value)


def test_what_compares_is_named_with_what_would_come_of_it() -> None:
    said = refused("math")
    assert "verify (verify.math)" in said and "coverage, calibration, forecast" in said and "load.answer_column" in said
    assert "verify (verify.exact)" in refused("math", verify={"operator": "verify.exact"})
    both = {"operator": "verify.any_of", "verifiers": [{"operator": "verify.exact"}, {"operator": "verify.math"}]}
    assert "verify.any_of" in refused("math", verify=both)


@pytest.mark.parametrize(
    "verify",
    [
        {"operator": "verify.judge"},
        {"operator": "verify.function", "function": "checks:check"},
        {"operator": "verify.cascade", "verifiers": [{"operator": "verify.exact"}, {"operator": "verify.judge"}]},
    ],
)
def test_who_needs_no_answers_is_let_go_on(verify: dict[str, Any]) -> None:
    pipeline, _ = build_pipeline("math", {**SOURCE, "verify": verify, "judge": JUDGE})
    refuse_unjudged(pipeline.stages.values())


def test_an_answer_or_a_verification_of_one_problem_is_enough() -> None:
    schema = {"answer": pl.String, "verification": pl.String}
    assert not has_answers(pl.DataFrame({"answer": [None, None], "verification": [None, None]}, schema=schema))
    assert has_answers(pl.DataFrame({"answer": [None, "4"], "verification": [None, None]}, schema=schema))
    assert has_answers(pl.DataFrame({"answer": [None], "verification": ["{}"]}, schema=schema))
    assert not has_answers(pl.DataFrame(schema=schema))
    assert VerifyExact.compares and not VerifyExact.needs_judged
