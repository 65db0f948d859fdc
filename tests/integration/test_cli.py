"""The command line as a user meets it: exit codes, JSON on stdout, errors that help."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tests.commands import as_json, gristmill
from tests.support import write_problems

HERE = Path(__file__).parents[2]
SCRIPTED = ["--set", "engine.kind=scripted", "--set", "engine.answers=['0','1','2']", "--runner", "local"]


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    return write_problems(tmp_path / "problems.jsonl", 3)


def math(*more: str) -> list[str]:
    quick = ["--set", "forecast.bootstrap=20"]
    return ["run", "math", "--set", "load.source=problems.jsonl", "--set", "sample.n=8", *SCRIPTED, *quick, *more]


def test_version_help_and_examples(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jobs.cli", "--version"]  # in an interpreter of its own, as nothing else here
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(HERE)}, capture_output=True)
    assert done.stdout.startswith(b"gristmill "), done.stderr
    for command in ("run", "plan", "op", "runs", "show", "samples", "report"):
        shown = gristmill(command, "--help", cwd=tmp_path)
        assert shown.returncode == 0
        assert f"$ gristmill {command}" in shown.stdout


def test_a_run_and_everything_that_looks_at_it(tmp_path: Path, problems: Path) -> None:
    document = as_json(*math(), cwd=tmp_path)
    assert document["state"] == "done"
    assert [row["k"] for row in document["pass_at_k"]][:1] == [1]
    assert Path(document["report"]).read_text().startswith("<!")
    for folder in document["datasets"].values():
        assert Path(folder).is_dir()
    listed = as_json("runs", cwd=tmp_path)
    assert [entry["run_id"] for entry in listed] == [document["run_id"]]
    assert {"run_id", "pipeline", "state", "started", "root", "datasets"} <= listed[0].keys()
    shown = as_json("show", "latest", cwd=tmp_path)
    assert shown["config"]["sample"]["n"] == 8
    assert "polars" in shown["versions"]
    samples = as_json("samples", "latest", "--only", "wrong", "--limit", "3", cwd=tmp_path)
    assert {row["is_correct"] for row in samples} == {False}
    plan = as_json(
        "plan", "math", "--set", "load.source=problems.jsonl", "--set", "sample.n=10", *SCRIPTED[:4], cwd=tmp_path
    )
    actions = {entry["name"]: entry["action"] for entry in plan["stages"]}
    assert actions["load"] == "reuse"
    assert actions["sample"] == actions["verify"] == "top up"
    assert actions["select"] == "compute"


def test_plain_lines_where_there_is_no_terminal(tmp_path: Path, problems: Path) -> None:
    done = gristmill(*math(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sample: 24/24" in done.stderr
    assert "\x1b[" not in done.stderr + done.stdout
    assert "pass@1" in done.stdout
    assert "report:" in done.stdout


def test_a_job_file_runs_as_the_command_line_does(tmp_path: Path, problems: Path) -> None:
    (tmp_path / "job.yaml").write_text(
        "pipeline: math\nrunner: local\nroot: here\nsettings:\n  load: {source: problems.jsonl}\n  sample: {n: 8}\n"
        "  forecast: {bootstrap: 20}\n"
        "  engine: {kind: scripted, answers: ['0', '1', '2']}\n"
    )
    document = as_json("run", "job.yaml", cwd=tmp_path)
    assert document["root"] == str(tmp_path / "here")
    again = as_json(*math("--root", "here"), cwd=tmp_path)
    assert [entry["computed"] for entry in again["stages"]] == [0] * len(again["stages"])


def test_dry_run_shows_the_plan_and_the_first_prompt_and_writes_nothing(tmp_path: Path, problems: Path) -> None:
    shown = gristmill(*math("--dry-run", "--root", "here"), cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "compute" in shown.stdout
    assert "What is" in shown.stdout
    assert "\\boxed{}" in shown.stdout
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "arithmetik"], ["did you mean 'arithmetic'"]),
        (["run", "math", "--set", "load.source=problem.jsonl"], ["doesn't exist", "problems.jsonl"]),
        (["run", "math", "--set", "load.source=empty.jsonl"], ["empty.jsonl"]),
        (["run", "math", "--set", "load.source=columns.jsonl"], ["frage", "question"]),
        (["run", "math", "--set", "load.source=twice.jsonl"], ["problem_id", "'x'"]),
        (["run", "math", "--set", "load.source=problems.jsonl", "--set", "sample.n=0"], ["sample.n"]),
        (["run", "math", "--set", "load.source=problems.jsonl", "--set", "engine.model=no.gguf"], ["no.gguf"]),
        (
            ["run", "math", "--set", "load.source=problems.jsonl", "--root", "problems.jsonl/x"],
            ["problems.jsonl' is a file"],
        ),
        (["run", "math", "--set", "sampel.n=1"], ["did you mean 'sample'"]),
        (["run", "math", "--set", "source=problems.jsonl"], ["did you mean 'load.source'"]),
        (["run", "math", "--set", "engine.kind=openia"], ["llama_cpp, scripted,", "did you mean openai?"]),
        (["run", "math", "--set", "sample.policy=margnal"], ["did you mean marginal?"]),
        (["run", "math", "--set", "load.source=nul.jsonl", "--dry-run"], ["row 2", "'b\\x00'", "NUL"]),
        (["op", "verify.mth", "--in", "x", "--out", "y"], ["did you mean 'verify.math'"]),
        (["describe", "verify.mth"], ["did you mean verify.math"]),
        (["show", "latest"], ["no runs"]),
        (["runs", "--nonsense"], ["--nonsense", "gristmill runs --help"]),
        (["runs", "--rot", "x"], ["--root"]),
        (["runs", "--sort", "costs"], ["--sort", "did you mean cost?"]),
        (["runs", "--root", "problems.jsonl"], ["is a file", "problems.jsonl"]),
        (["samples", "latest", "--root", "problems.jsonl/x"], ["problems.jsonl' is a file"]),
        (["runs", "--root", "nowhere"], ["doesn't exist", "gristmill run arithmetic --root nowhere"]),
        (["cost", "latest", "--root", "hear"], ["doesn't exist", "did you mean 'here'?"]),
        (
            ["export", "latest"],
            ["--format", "messages, prompt-completion", "--format messages --to data/sft"],
        ),
        (["export", "latest", "--format", "messages"], ["--to", "For example: gristmill export"]),
        (["export", "latest", "--format", "message", "--to", "x"], ["did you mean messages?"]),
        (["nightly", "run"], ["JOB.yaml", "For example: gristmill nightly run night.yaml"]),
        (["nightly", "rum"], ["Did you mean 'run'?", "gristmill nightly --help"]),
    ],
)
def test_bad_input_is_one_clear_error_with_exit_code_2(
    tmp_path: Path, problems: Path, arguments: list[str], words: list[str]
) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "columns.jsonl").write_text('{"frage": "1+1"}\n')
    (tmp_path / "twice.jsonl").write_text('{"id": "x", "question": "1"}\n{"id": "x", "question": "2"}\n')
    (tmp_path / "nul.jsonl").write_text('{"id": "a", "question": "1"}\n{"id": "b\\u0000", "question": "2"}\n')
    (tmp_path / "here").mkdir()
    more = ["--runner", "local"] if arguments[0] == "run" else []
    done = gristmill(*arguments, *more, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_an_incomplete_run_exits_3_and_says_how_to_go_on(tmp_path: Path, problems: Path) -> None:
    done = gristmill(*math("--set", "sample.retries=0", "--set", "engine.fail_transient=0.5"), cwd=tmp_path)
    assert done.returncode == 3
    assert "The same command continues from here" in done.stderr


def test_a_failing_operator_exits_1(tmp_path: Path, problems: Path) -> None:
    done = gristmill(*math("--set", "verify.operator=verify.exact", "--set", "verify.pattern=(x"), cwd=tmp_path)
    assert done.returncode == 1
    assert "stage verify" in done.stderr


OWN = '''
from typing import ClassVar
import polars as pl
from operators.base import Operator
from schemas.datasets import Answer, Verdict

class LastAnswer(Operator):
    """Trust the last sample."""
    version: ClassVar[int] = 1
    scope = "problem"
    inputs = {"verdicts": Verdict.select("problem_key", "sample_index", "problem_id", "answer_key", "is_correct")}
    output = Answer
    confidence: float = 1.0

    def run(self, verdicts: pl.DataFrame) -> pl.DataFrame:
        last = verdicts.sort("sample_index").group_by("problem_key").last()
        return last.select(
            "problem_key", pl.lit("last").alias("method"), "problem_id", answer="answer_key",
            answer_class=pl.lit(None, dtype=pl.Int64), confidence=pl.lit(self.confidence),
            n_samples=pl.lit(1, dtype=pl.Int64), runner_up=pl.lit(None, dtype=pl.String),
            runner_up_confidence=pl.lit(None, dtype=pl.Float64), is_correct="is_correct")
'''


@pytest.mark.parametrize("runner", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_users_own_operator_works_in_op_and_in_a_pipeline(tmp_path: Path, problems: Path, runner: str) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "v.jsonl").write_text('{"problem_id": "a", "sample_index": 0, "answer_key": "7", "is_correct": true}\n')
    done = gristmill("op", "mine:LastAnswer", "--in", "v.jsonl", "--out", "a.parquet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert pl.read_parquet(tmp_path / "a.parquet")["answer"].to_list() == ["7"]
    own = ["--set", "select.operator=mine:LastAnswer", "--set", "select.confidence=0.5", "--runner", runner]
    document = as_json(*math(), *own, cwd=tmp_path)
    answers = pl.read_parquet(f"{document['datasets']['select']}/*.parquet")
    assert answers["confidence"].unique().to_list() == [0.5]


def test_op_reads_one_file_for_several_inputs(tmp_path: Path) -> None:
    rows = [
        {"problem_id": f"p{i % 5}", "completion": f"so it is \\boxed{{{i % 7}}}", "answer": str(i % 5)}
        for i in range(70)
    ]
    pl.DataFrame(rows).write_csv(tmp_path / "rows.csv")
    done = gristmill("op", "verify.math", "--in", "rows.csv", "--out", "v.parquet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    verdicts = pl.read_parquet(tmp_path / "v.parquet")
    assert len(verdicts) == 70
    right = [int(row["completion"].split("{")[1][0]) == int(row["answer"]) for row in rows]
    assert verdicts["is_correct"].sum() == sum(right)
    done = gristmill(
        "op", "measure.pass_at_k", "--in", "v.parquet", "--out", "k.jsonl", "--set", "k=[1,4]", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    rows_k = pl.read_ndjson(tmp_path / "k.jsonl")
    assert rows_k["k"].to_list() == [1, 4]
    assert rows_k["coverage"][0] == pytest.approx(sum(right) / 70)


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["verify.exact", "--in", "rows.jsonl"], "rows.jsonl"),
        (["verify.exact", "--in", "problems=rows.jsonl", "--in", "samples=rows.jsonl"], "../here/rows.jsonl"),
        (["verify.exact", "--in", "rows.jsonl"], "hard.jsonl"),
        (["verify.exact", "--in", "soft.jsonl"], "rows.jsonl"),
        (["verify.exact", "--in", "*.jsonl"], "rows.jsonl"),
        (["verify.exact", "--in", "samples=."], "new.parquet"),
        (["load", "--in", "rows.jsonl"], "rows.jsonl"),
        (["load", "--set", "source=rows.jsonl"], "rows.jsonl"),
    ],
)
def test_op_never_writes_over_what_it_reads(tmp_path: Path, arguments: list[str], output: str) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    path = folder / "rows.jsonl"
    path.write_text('{"problem_id": "a", "prompt": "2 + 2?", "answer": "4", "completion": "4"}\n')
    (folder / "hard.jsonl").hardlink_to(path)
    (folder / "soft.jsonl").symlink_to(path)
    before = path.read_bytes()
    done = gristmill("op", *arguments, "--out", output, cwd=folder)
    assert done.returncode == 2 and "would be written over the input" in done.stderr
    assert path.read_bytes() == before
    assert sorted(one.name for one in folder.iterdir()) == ["hard.jsonl", "rows.jsonl", "soft.jsonl"]


def test_op_uses_classes_from_elsewhere(tmp_path: Path) -> None:
    rows = [(0, "7", 3), (1, "8", 5), (2, "seven", 3), (3, "9", 6)]
    table = pl.DataFrame(rows, schema=["sample_index", "predicted_answer", "answer_class"], orient="row")
    table.with_columns(problem_id=pl.lit("p")).write_parquet(tmp_path / "v.parquet")
    done = gristmill("op", "select.majority", "--in", "v.parquet", "--out", "a.parquet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = pl.read_parquet(tmp_path / "a.parquet").row(0, named=True)
    assert (answer["answer"], answer["answer_class"], answer["confidence"]) == ("7", 3, 0.5)


def test_op_counts_need_no_samples(tmp_path: Path) -> None:
    pl.DataFrame({"problem_index": [0, 1], "n": [4, 4], "c": [0, 2]}).write_parquet(tmp_path / "c.parquet")
    done = gristmill(
        "op", "measure.pass_at_k", "--in", "counts=c.parquet", "--out", "k.csv", "--set", "k=[1,2]", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert pl.read_csv(tmp_path / "k.csv")["coverage"].to_list() == pytest.approx([0.25, (1 - 1 / 6) / 2])


def test_rows_that_are_there_twice_are_refused(tmp_path: Path) -> None:
    """They would count twice: files of a store that was rewritten, read as plain files, hold such rows."""
    row = "a,0,true\n"
    (tmp_path / "v.csv").write_text("problem_key,sample_index,is_correct\n" + row + "a,1,false\n" + row)
    done = gristmill("op", "measure.pass_at_k", "--in", "verdicts=v.csv", "--out", "k.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert "2 of 3 rows" in done.stderr
    assert "problem_key=a, sample_index=0" in done.stderr
