"""Pipelines: what can be wired, and what is refused with a remedy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from operators.load import Load
from operators.sample.sampling import Sampling
from operators.select.majority import MajorityVote
from operators.verify.exact import VerifyExact
from pipelines import PIPELINES, pipeline_module
from pipelines.graph import Pipeline
from schemas.engine import ScriptedSpec
from schemas.errors import BadInput
from tests.support import CountRows


def wired() -> Pipeline:
    pipeline = Pipeline("p")
    problems = pipeline.stage("load", Load(source="x.jsonl"))
    samples = pipeline.stage("sample", Sampling(), engine=ScriptedSpec(), problems=problems)
    pipeline.stage("verify", VerifyExact(), problems=problems, samples=samples)
    return pipeline


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda p: p.stage("verify", MajorityVote(), verdicts=p.stages["verify"]), "already"),
        (lambda p: p.stage("s", MajorityVote(), verdict=p.stages["verify"]), "did you mean 'verdicts'"),
        (lambda p: p.stage("s", MajorityVote()), "needs input.*verdicts"),
        (lambda p: p.stage("s", MajorityVote(), verdicts=p.stages["sample"]), "reads column.*gives Sample"),
        (lambda p: p.stage("s", Sampling(), problems=p.stages["load"]), "needs an engine"),
        (
            lambda p: p.stage("s", MajorityVote(), engine=ScriptedSpec(), verdicts=p.stages["verify"]),
            "doesn't use an engine",
        ),
        (lambda p: p.stage("s", Load(source="y.jsonl")), "a source must come first"),
        (lambda p: p.stage("s", MajorityVote(), verdicts=wired().stages["verify"]), "another pipeline"),
    ],
)
def test_a_wrong_edge_is_refused(mistake: Callable[[Pipeline], object], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        mistake(wired())


def test_a_pipeline_begins_with_a_source() -> None:
    with pytest.raises(BadInput, match="must be a source"):
        Pipeline("p").stage("v", CountRows())


@pytest.mark.parametrize("name", PIPELINES)
def test_every_shipped_pipeline_builds_with_its_defaults(name: str) -> None:
    module = pipeline_module(name)
    pipeline = module.build(module.Config())
    assert pipeline.name == name
    assert next(iter(pipeline.stages.values())).operator.scope == "source"


def test_an_unknown_pipeline_offers_the_nearest() -> None:
    with pytest.raises(BadInput, match="did you mean 'arithmetic'"):
        pipeline_module("aritmetic")


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("from operators.load import Load\n\nLoad(sauce='p')\n", 3, "sauce"),
        ("x = = 1\n", 1, "SyntaxError"),
        ("import json\njson.loads('{')\n", 2, "JSONDecodeError"),
        ("undefined\n", 1, "NameError"),
    ],
)
def test_what_is_wrong_with_ones_own_module_is_told_with_its_line(
    text: str, line: int, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wrongly").mkdir()
    (tmp_path / "wrongly" / "made.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "wrongly", raising=False)
    with pytest.raises(BadInput, match=f"made.py, line {line}: ") as told:
        pipeline_module("wrongly.made")
    assert why in str(told.value)
