"""Verifiers in pipelines: programs in the sandbox, several verifiers, parts of prompts, an audit, what can't be run."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from cluster.driving.driver import run_pipeline
from cluster.records.events import read_events
from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from cluster.sandbox.pool import shared_sandbox
from cluster.storage.root import Root
from operators.load import Load
from operators.measure.pass_at_k import PassAtK
from operators.measure.verifier_audit import MeasureVerifierAudit
from operators.sample.sampling import Sampling
from operators.sandbox import Limits
from operators.verify.code import VerifyCode
from operators.verify.compose import VerifyCascade
from operators.verify.exact import VerifyExact
from operators.verify.judge import VerifyJudge
from operators.verify.rest import VerifyRest
from pipelines.graph import Pipeline
from schemas.engine import ScriptedSpec
from schemas.errors import BadInput
from tests.support import BOTH, QUICK, make_runner, run, write_problems

PROGRAMS = (
    "```python\ndef add(a, b):\n    return a + b\n```",
    "```python\ndef add(a, b):\n    return a - b\n```",
    "```python\nimport os\nos.kill(1, 9)\nopen('/etc/passwd')\n```",
    "no program here",
)


def coding(tmp_path: Path) -> Pipeline:
    source = tmp_path / "code.jsonl"
    tests = "def check(candidate):\n    assert candidate(1, 2) == 3"
    rows = [
        {"task_id": f"t{i}", "prompt": f"Add two numbers ({i}).", "test": tests, "entry_point": "add"} for i in range(4)
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pipeline = Pipeline("coding")
    problems = pipeline.stage("load", Load(source=str(source)))
    drawn = pipeline.stage("sample", Sampling(n=16), engine=ScriptedSpec(answers=PROGRAMS), problems=problems)
    verdicts = pipeline.stage("verify", VerifyCode(limits=Limits(seconds=5)), problems=problems, samples=drawn)
    pipeline.stage("coverage", PassAtK(), verdicts=verdicts)
    return pipeline


@pytest.mark.sandbox
@BOTH
def test_programs_are_judged_in_a_pipeline(tmp_path: Path, runner: str) -> None:
    result = run(make_runner(runner), coding(tmp_path), tmp_path / "data")
    assert result.manifest.state == "done"
    verdicts = result.dataset("verify").join(
        result.dataset("sample").select("problem_key", "sample_index", "completion"), on=["problem_key", "sample_index"]
    )
    found = dict(verdicts.group_by("completion").agg(pl.col("is_correct").unique()).collect().rows())
    assert found == {text: [text == PROGRAMS[0]] for text in found}
    assert len(found) == 4
    coverage = result.dataset("coverage").filter(pl.col("k") == 1).collect()
    assert 0 < coverage["coverage"].item() < 1


@pytest.mark.sandbox
def test_a_run_without_a_sandbox_is_refused_before_it_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = coding(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    shared_sandbox.cache_clear()  # one that an earlier test left warm
    with pytest.raises(BadInput, match=r"run in a sandbox.*bubblewrap.*--allow-unsafe-execution"):
        run(LocalRunner(), pipeline, tmp_path / "data")
    assert not list((tmp_path / "data").glob("samples/*/*.parquet"))
    said: list[str] = []

    class Listening:
        def say(self, text: str) -> None:
            said.append(text)

        def update(self, *_: object, **__: object) -> None:
            pass

        def __getattr__(self, name: str) -> object:
            return self.update

    unsafe = QUICK.model_copy(update={"allow_unsafe_execution": True})
    runner = LocalRunner()
    try:
        result = run_pipeline(pipeline, runner, str(tmp_path / "data"), unsafe, Listening())  # type: ignore[arg-type]
    finally:
        runner.close()
    assert result.manifest.state == "done"
    assert any("WITHOUT A SANDBOX" in text for text in said)


@pytest.mark.sandbox
def test_what_is_weaker_on_this_machine_is_said_once(tmp_path: Path) -> None:
    class Weaker(LocalRunner):
        def check_sandbox(self) -> str | None:
            super().check_sandbox()
            return "no control group counts the memory of programs here"

    result = run(Weaker(), coding(tmp_path), tmp_path / "data")
    events = read_events(Root.at(str(tmp_path / "data")), result.manifest.run_id)
    assert sum("no control group" in event.get("message", "") for event in events) == 1


@pytest.mark.sandbox
def test_a_problem_that_can_not_be_verified_is_named_before_anything_is_sampled(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"id": "fine", "prompt": "?", "verification": {"code": {"tests": "assert 1"}}}]
    rows.append({"id": "bare", "prompt": "??", "answer": "42"})
    with pytest.raises(BadInput, match="problem 'bare': its verification has neither 'tests' nor 'cases'"):
        verified(tmp_path, VerifyCode(), PROGRAMS, rows)
    assert not list((tmp_path / "data").glob("samples/*/*.parquet"))


def verified(
    tmp_path: Path, operator: object, answers: tuple[str, ...], rows: list[dict[str, object]], **more: object
) -> RunResult:
    source = tmp_path / "p.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pipeline = Pipeline("verified")
    problems = pipeline.stage("load", Load(source=str(source)))
    drawn = pipeline.stage("sample", Sampling(n=12), engine=ScriptedSpec(answers=answers), problems=problems)
    pipeline.stage("verify", operator, problems=problems, samples=drawn, **more)  # type: ignore[arg-type]
    return run(LocalRunner(), pipeline, tmp_path / "data")


def test_parts_of_a_prompt_are_judged_in_a_pipeline(tmp_path: Path) -> None:
    parts = {"rest": [{"problem_id": "a", "answer": "4"}, {"problem_id": "b", "answer": "5"}]}
    rows: list[dict[str, object]] = [
        {"id": f"both{i}", "prompt": f"1. 2+2? 2. 2+3? ({i})", "verification": parts} for i in range(3)
    ]
    result = verified(tmp_path, VerifyRest(verifier=VerifyExact()), ("1. 4\n2. 5", "1. 4\n2. 6"), rows)
    assert result.manifest.state == "done"
    found = result.dataset("verify").collect()
    assert dict(found["verifier"].value_counts().rows()) == {
        "verify.rest": 36,
        "verify.rest/1": 36,
        "verify.rest/2": 36,
    }
    assert found.filter(pl.col("verifier") == "verify.rest/1")["is_correct"].all()
    again = verified(tmp_path, VerifyRest(verifier=VerifyExact()), ("1. 4\n2. 5", "1. 4\n2. 6"), rows)
    record = next(stage for stage in again.manifest.stages if stage.name == "verify")
    assert (record.reused, record.computed) == (36, 0)


def test_a_cascade_with_a_judge_runs_with_its_engine(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"id": str(i), "prompt": f"{i}?", "answer": "42"} for i in range(3)]
    judge = ScriptedSpec(model="judge", answers=("VERDICT: SAME", "VERDICT: DIFFERENT"))
    operator = VerifyCascade(verifiers=(VerifyExact(), VerifyJudge(votes=1)))
    result = verified(tmp_path, operator, ("42", "forty-two"), rows, engine=judge)
    assert result.manifest.state == "done"
    found = (
        result.dataset("verify")
        .join(
            result.dataset("sample").select("problem_key", "sample_index", "completion"),
            on=["problem_key", "sample_index"],
        )
        .collect()
    )
    assert found.filter(pl.col("completion") == "42")["detail"].unique().to_list() == ["verify.exact"]
    assert found.filter(pl.col("completion") != "42")["detail"].str.starts_with("verify.judge").all()


def test_an_audit_in_a_pipeline_and_its_report(tmp_path: Path) -> None:
    source = write_problems(tmp_path / "p.jsonl", 12)
    pipeline = Pipeline("audited")
    problems = pipeline.stage("load", Load(source=str(source)))
    drawn = pipeline.stage(
        "sample", Sampling(n=20), engine=ScriptedSpec(answers=("0", "1", "2", "0 ")), problems=problems
    )
    weak = pipeline.stage("weak", VerifyExact(pattern=r"(\d)|.*"), problems=problems, samples=drawn)
    strong = pipeline.stage("strong", VerifyExact(), problems=problems, samples=drawn)
    pipeline.stage("audit", MeasureVerifierAudit(bootstrap=100), verdicts=weak, reference=strong)
    result = run(LocalRunner(), pipeline, tmp_path / "data")
    assert result.manifest.state == "done"
    audit = result.dataset("audit").collect()
    assert {"completeness", "soundness", "ceiling", "best_tries", "accuracy_corrected"} <= set(audit["metric"])

    from jobs.report.build import render

    page = render(result.manifest, {record.name: result.dataset(record.name) for record in result.manifest.stages})
    assert "The verifier, audited" in page
    assert "soundness: wrong ones rejected" in page
