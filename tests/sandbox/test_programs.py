"""What a program may do, what its tests see of it, and how its end is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.sandbox import bubblewrap
from cluster.sandbox.inside.tester import same_output
from cluster.sandbox.pool import SandboxPool
from operators.sandbox import Case, CasesJob, CheckJob, CommandJob, Job, Language, Limits, Mounts, Outcome
from schemas.errors import BadInput

pytestmark = pytest.mark.sandbox


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with SandboxPool(1) as pool:
        yield pool


def run(pool: SandboxPool, job: Job, seconds: float = 5.0, mounts: Mounts | None = None) -> Outcome:
    [outcome] = pool.run([job], Limits(seconds=seconds), mounts or Mounts())
    return outcome


PASSING = {
    "numbers": ("def f(a, b):\n    return a / b", "assert f(1, 2) == 0.5 and f(10**40, 1) == 1e40"),
    "big integers": ("def f(n):\n    return 7 ** n", "assert f(5000) == 7 ** 5000"),
    "not a number": ("def f():\n    return float('nan'), float('inf')", "a, b = f()\nassert a != a and b > 1e308"),
    "text": ("def f(s):\n    return s[::-1]", "assert f('a\\ud800\\U0001f600') == '\\U0001f600\\ud800a'"),
    "containers": (
        "def f(x):\n    return [x, (x, {x}), {x: frozenset([x])}, b'\\xff', complex(1, 2), range(3), None]",
        "assert f(1) == [1, (1, {1}), {1: frozenset([1])}, b'\\xff', 1 + 2j, range(3), None]",
    ),
    "a tuple isn't a list": ("def f():\n    return (1, 2)", "assert f() != [1, 2] and f() == (1, 2)"),
    "named tuples and counters": (
        "from collections import namedtuple, Counter\nP = namedtuple('P', 'x y')\ndef f():\n    return P(1, 2), Counter('aab')",
        "p, c = f()\nassert p == (1, 2) and c == {'a': 2, 'b': 1}",
    ),
    "fractions and decimals": (
        "from fractions import Fraction as F\nfrom decimal import Decimal as D\ndef f():\n    return F(1, 3), D('0.10')",
        "from fractions import Fraction\nfrom decimal import Decimal\nassert f() == (Fraction(1, 3), Decimal('0.1'))",
    ),
    "changes its argument": ("def f(x):\n    x.sort()\n    x.append(9)", "a = [2, 1]\nassert f(a) is None\nassert a == [1, 2, 9]"),
    "a function as argument": ("def f(g, xs):\n    return [g(x) for x in xs]", "assert f(lambda x: x * 2, [1, 2]) == [2, 4]"),
    "a generator": ("def f(n):\n    yield from range(n)", "assert list(f(3)) == [0, 1, 2]"),
    "a class": (
        "class Stack:\n    def __init__(self):\n        self.items = []\n    def push(self, x):\n        self.items.append(x)\n"
        "    def __len__(self):\n        return len(self.items)",
        "s = Stack()\ns.push(3)\ns.push(4)\nassert len(s) == 2 and s.items == [3, 4]",
    ),
    "two objects of the program's": (
        "class P:\n    def __init__(self, x):\n        self.x = x\n    def __eq__(self, o):\n        return self.x == o.x\n"
        "def f():\n    return P(1)",
        "assert f() == P(1)\nassert not f() == P(2)",
    ),
    "exceptions": (
        "def f(x):\n    if x < 0:\n        raise ValueError('negative')\n    return x",
        "try:\n    f(-1)\n    assert False\nexcept ValueError as error:\n    assert 'negative' in str(error)",
    ),
    "unittest": (
        "def f(x):\n    return x + 1",
        "import unittest\nclass T(unittest.TestCase):\n    def test_it(self):\n        self.assertEqual(f(1), 2)\n"
        "        with self.assertRaises(TypeError):\n            f('x')",
    ),
    "a dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\ndef f():\n    return P(3)",
        "assert f().x == 3 and f() == P(3)",
    ),
    "a pool of processes": (
        "from multiprocessing import Pool\ndef g(x):\n    return x * x\ndef f():\n    with Pool(3) as p:\n        return p.map(g, range(4))",
        "assert f() == [0, 1, 4, 9]",
    ),
    "asyncio": ("import asyncio\nasync def g():\n    return 3\ndef f():\n    return asyncio.run(g())", "assert f() == 3"),
    "subprocesses and threads": (
        "import subprocess, sys, threading\ndef f():\n    t = threading.Thread(target=print)\n    t.start()\n    t.join()\n"
        "    return subprocess.run([sys.executable, '-c', 'print(3)'], capture_output=True, text=True).stdout",
        "assert f() == '3\\n'",
    ),
    "temporary files": (
        "import tempfile\ndef f():\n    with tempfile.TemporaryFile('w+') as t:\n        t.write('x')\n        t.seek(0)\n        return t.read()",
        "assert f() == 'x'",
    ),
    "prints while it works": ("def f():\n    print('x' * 100000)\n    return 1", "assert f() == 1"),
    "main isn't run": ("def f():\n    return 1\nif __name__ == '__main__':\n    input()", "assert f() == 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", PASSING)
def test_right_programs_pass(pool: SandboxPool, name: str) -> None:
    program, tests = PASSING[name]
    outcome = run(pool, CheckJob(program, tests))
    assert outcome.status == "passed", outcome


@pytest.mark.parametrize(
    ("program", "tests", "status", "told"),
    [
        ("def f(): return 1", "assert f() == 2, 'want 2'", "failed", "AssertionError (line 1 of the tests): want 2"),
        ("def f():\n    return 1 / 0", "f()", "failed", "ZeroDivisionError (line 2): division by zero"),
        ("def f(:", "f()", "failed", "SyntaxError (line 1)"),
        ("raise KeyError('x')", "f()", "failed", "KeyError (line 1): 'x'"),
        ("def g(): pass", "f()", "failed", "NameError (line 1 of the tests): name 'f' is not defined"),
        ("def f():\n    while True: pass", "f()", "timeout", ""),
        ("x = bytearray(10**10)", "x", "failed", "MemoryError (line 1)"),
        ("def f(): return 1", "assert f( == 1", "refused", "the tests don't compile"),
    ],
)
def test_what_went_wrong_is_told(pool: SandboxPool, program: str, tests: str, status: str, told: str) -> None:
    outcome = run(pool, CheckJob(program, tests), seconds=1.0)
    assert outcome.status == status
    assert told in (outcome.detail or "")


def test_a_missing_entry_point_is_named(pool: SandboxPool) -> None:
    outcome = run(pool, CheckJob("def other(): pass", "def check(c): pass", "f"))
    assert (outcome.status, outcome.detail) == ("failed", "the program defines no 'f'")


def test_cases(pool: SandboxPool) -> None:
    program = "import sys\nfor line in sys.stdin:\n    print(int(line) / 4)"
    right = (Case(stdin="1\n2\n", stdout="0.25\n0.5"), Case(stdin="", stdout=""))
    assert run(pool, CasesJob(program, right)).status == "passed"
    wrong = run(pool, CasesJob(program, (*right, Case(stdin="3", stdout="0.8"))))
    assert wrong.status == "failed"
    assert wrong.detail == "case 3 of 3: wrote '0.75\\n', expected '0.8'"
    assert run(pool, CasesJob(program, (Case(stdin="3", stdout="0.7500001"),), tolerance=1e-5)).status == "passed"
    assert run(pool, CasesJob("print(open(0).read())\nexit()", (Case(stdin="7", stdout="7"),))).status == "passed"
    failing = run(pool, CasesJob("print(1)\nraise SystemExit(3)", (Case(stdin="", stdout="1"),)))
    assert failing.detail == "case 1 of 1: exit code 3: 1"
    unclean = run(pool, CasesJob("print(1)\n[][0]", (Case(stdin="", stdout="1"),)))
    assert "IndexError (line 2): list index out of range" in (unclean.detail or "")


def test_a_script_finds_itself_as_main(pool: SandboxPool) -> None:
    program = (
        "from multiprocessing import Pool\nfrom dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n"
        "def g(x):\n    return P(x)\nif __name__ == '__main__':\n    with Pool(2) as p:\n        print(p.map(g, range(2)))"
    )
    outcome = run(pool, CasesJob(program, (Case(stdout="[P(x=0), P(x=1)]"),)))
    assert outcome.status == "passed", outcome


def test_a_case_knows_nothing_of_the_one_before(pool: SandboxPool) -> None:
    program = "import os\nprint(os.path.exists('x') and open('x').read())\nopen('x', 'w').write('1')"
    outcome = run(pool, CasesJob("count = globals().get('count', 0) + 1\nprint(count)", (Case(stdout="1"),) * 3))
    assert outcome.status == "passed"
    assert run(pool, CasesJob(program, (Case(stdout="False"),))).status == "passed"


def test_another_language(pool: SandboxPool) -> None:
    """Shell and AWK stand for what a machine may not have: a compiler that makes a program, and the program."""
    language = Language(
        file="main.awk",
        compile=("sh", "-c", "grep -q BEGIN {file} && cp {file} {dir}/compiled"),
        run=("awk", "-f", "{dir}/compiled"),
    )
    program = "BEGIN { s = 0 } { s += $1 } END { print s }"
    cases = (Case(stdin="1\n2\n", stdout="3"), Case(stdin="5", stdout="5"))
    assert run(pool, CasesJob(program, cases, language=language)).status == "passed"
    broken = run(pool, CasesJob("{ print }", cases, language=language))
    assert broken.status == "failed"
    assert (broken.detail or "").startswith("doesn't compile: exit code 1")
    slow = Language(file="x", run=("sleep", "60"))
    assert run(pool, CasesJob("x", cases, language=slow), seconds=0.5).status == "timeout"
    none = Language(file="x", run=("no-such-compiler",))
    assert run(pool, CasesJob("x", cases, language=none)).status == "missing"


def test_a_file_that_does_not_fit_concerns_its_job_alone(pool: SandboxPool) -> None:
    large = CommandJob(("true",), (("large.txt", "x" * (40 << 20)),))
    outcome = run(pool, large)
    assert outcome.status == "refused"
    assert "No space left" in (outcome.detail or "")


def test_commands(pool: SandboxPool) -> None:
    outcome = run(pool, CommandJob(("sh", "-c", "cat a/b.txt - && exit 3"), (("a/b.txt", "file "),), "stdin"))
    assert (outcome.status, outcome.exit_code, outcome.stdout) == ("failed", 3, "file stdin")
    killed = run(pool, CommandJob(("sh", "-c", "kill -SEGV $$")))
    assert (killed.exit_code, killed.detail) == (-11, "killed by SIGSEGV")


def test_packages_and_paths_are_those_named(pool: SandboxPool, tmp_path: Path) -> None:
    program = "import numpy\ndef f(): return numpy.arange(3), numpy.float64(0.5)"
    tests = "import numpy\na, b = f()\nassert (a == numpy.arange(3)).all() and b == 0.5"
    assert run(pool, CheckJob(program, tests)).status == "failed"
    assert run(pool, CheckJob(program, tests), mounts=Mounts(packages=("numpy",))).status == "passed"
    reading = CheckJob("def f(): return open('/etc/passwd').readline()", "assert f()")
    assert run(pool, reading).status == "failed"
    assert run(pool, reading, mounts=Mounts(paths=("/etc/passwd",))).status == "passed"
    with pytest.raises(BadInput, match="of its own"):
        run(pool, reading, mounts=Mounts(paths=(str(tmp_path),)))
    with pytest.raises(BadInput, match="doesn't exist"):
        run(pool, reading, mounts=Mounts(paths=("/no/such/place",)))
    with pytest.raises(BadInput, match="pip install nosuchpackage"):
        run(pool, reading, mounts=Mounts(packages=("nosuchpackage",)))


def test_without_a_sandbox_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with SandboxPool(1) as pool, pytest.raises(BadInput, match=r"bwrap.*isn't on the PATH.*--allow-unsafe-execution"):
        pool.check()


def test_a_sandbox_that_can_not_be_made_is_no_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with SandboxPool(1) as pool, pytest.raises(BadInput, match="No permissions to create new namespace"):
        pool.check()


def test_unsafe_execution_still_has_limits() -> None:
    with SandboxPool(1, unsafe=True) as pool:
        assert run(pool, CheckJob("def f(): return 1", "assert f() == 1")).status == "passed"
        assert run(pool, CheckJob("while True: pass", ""), seconds=0.5).status == "timeout"
        left = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)\n"
        assert run(pool, CasesJob(left, (Case(stdout=""),)), seconds=1).status == "passed"
        assert run(pool, CheckJob("x = bytearray(10**10)", "")).status == "failed"


def test_nothing_of_the_environment_is_passed_on() -> None:
    assert "GRISTMILL" not in " ".join(bubblewrap.environment())
    assert "--clearenv" in bubblewrap.command(Mounts(), 9, counted=True)


@pytest.mark.parametrize(
    ("found", "expected", "tolerance", "same"),
    [
        ("1 2\n3", "1  2 3\n", 0.0, True),
        ("1.0", "1", 1e-5, False),
        ("0.333333", "0.33333333", 1e-5, True),
        ("0.333333", "0.33333333", 0.0, False),
        ("1e6", "1000000.5", 1e-6, True),
        ("yes", "YES", 1e-5, False),
        ("nan", "0.5", 1e-5, False),
        ("1", "1 1", 1e-5, False),
    ],
)
def test_outputs_are_compared_word_by_word(found: str, expected: str, tolerance: float, same: bool) -> None:
    assert same_output(found, expected, tolerance) is same
