"""Problems in the shapes of MBPP, APPS and LiveCodeBench: every right program is right, every wrong one wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator

import polars as pl
import pytest

from cluster.sandbox.pool import SandboxPool
from operators.sandbox import Limits
from operators.verify.code import VerifyCode
from tests.sandbox import sets

pytestmark = pytest.mark.sandbox


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with SandboxPool(2) as pool:
        yield pool


@pytest.mark.parametrize("name", ["MBPP", "APPS", "LIVE_CODE_BENCH"])
def test_every_verdict_is_known(pool: SandboxPool, name: str) -> None:
    problems: dict[str, sets.Problem] = getattr(sets, name)
    assert len(problems) == 20
    rows = [
        (key, number, key, text, "ok") for key, (_, *texts) in problems.items() for number, text in enumerate(texts)
    ]
    schema = ["problem_key", "sample_index", "problem_id", "completion", "status"]
    samples = pl.DataFrame(rows, schema=schema, orient="row")
    about = [(key, key, json.dumps({"code": code})) for key, (code, _, _) in problems.items()]
    table = pl.DataFrame(about, schema=["problem_key", "problem_id", "verification"], orient="row")
    found = VerifyCode(limits=Limits(seconds=5)).run(samples, table, pool)
    wrongly = found.filter((pl.col("status") != "ok") | (pl.col("is_correct") != (pl.col("sample_index") == 0))).select(
        "problem_id", "sample_index", "status", "is_correct", "detail"
    )
    assert wrongly.rows() == []
