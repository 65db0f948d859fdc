"""Which program is found in a completion, and which tests assert nothing."""

from __future__ import annotations

import json

import polars as pl
import pytest

from cluster.sandbox.pool import SandboxPool
from operators.sandbox import Limits
from operators.verify.code import VerifyCode
from tests.sandbox.written import WRITTEN

pytestmark = pytest.mark.sandbox


def test_every_verdict_is_known() -> None:
    rows = [(str(number), 0, name, text, "ok") for number, (name, _, text, _) in enumerate(WRITTEN)]
    schema = ["problem_key", "sample_index", "problem_id", "completion", "status"]
    samples = pl.DataFrame(rows, schema=schema, orient="row")
    about = [(str(number), name, json.dumps({"code": code})) for number, (name, code, _, _) in enumerate(WRITTEN)]
    problems = pl.DataFrame(about, schema=["problem_key", "problem_id", "verification"], orient="row")
    with SandboxPool(2) as pool:
        found = VerifyCode(limits=Limits(seconds=5)).run(samples, problems, pool)
    said = [
        "error" if status == "error" else "right" if right else "wrong"
        for status, right in found.select("status", "is_correct").iter_rows()
    ]
    wrongly = [(name, got) for (name, _, _, expected), got in zip(WRITTEN, said, strict=True) if got != expected]
    assert wrongly == []
