"""A function of one's own that runs what a model wrote, in the sandbox."""

from __future__ import annotations

import polars as pl
import pytest

from cluster.sandbox.pool import SandboxPool
from operators.verify.function import VerifyFunction
from schemas.contract import conform, validate
from schemas.datasets import Verdict

pytestmark = pytest.mark.sandbox


def test_it_judges_and_what_it_runs_gets_nowhere() -> None:
    texts = [
        "x = 3 + 4",
        "x = 8",
        "while True: pass",
        "open('/etc/passwd', 'a')",
        "import socket; x = socket.create_connection(('127.0.0.1', 9))",
        "raise SystemExit(0)",
    ]
    verifier = VerifyFunction(function="tests.sandbox.own_check:runs", sandbox=True, timeout=2.0)
    table = pl.DataFrame({"problem_id": ["p"] * len(texts), "sample_index": range(len(texts)), "completion": texts})
    problems = pl.DataFrame({"problem_id": ["p"], "prompt": ["Q?"], "answer": ["7"], "task_type": ["code"]})
    samples = conform(table, verifier.inputs["samples"], "samples")
    given = conform(problems, verifier.inputs["problems"], "problems")
    with SandboxPool(2) as pool:
        found = validate(verifier.run(samples=samples, problems=given, sandbox=pool), Verdict, "verify")
    assert found["status"].to_list() == ["ok", "ok", "timeout", "error", "error", "error"]
    assert found["is_correct"].to_list() == [True, False, None, None, None, None]
    assert found["answer_key"].to_list()[:2] == ["7", "8"]
