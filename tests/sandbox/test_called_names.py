"""What is called is what the program defines, never a name that was there before it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.sandbox.pool import SandboxPool
from operators.sandbox import Call, CallsJob, Limits, Mounts

pytestmark = pytest.mark.sandbox

METHOD = "class Solution:\n    def {name}(self, *args):\n        return 77\n"
OTHER = "class Other:\n    def {name}(self, *args):\n        return 77\n"
NOTHING = "x = 1\n"


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with SandboxPool(2) as pool:
        yield pool


def call(name: str) -> Call:
    given = {"add": ((1, 2), 3), "sqrt": ((9,), 3.0), "mean": (([1, 3],), 2), "gcd": ((4, 6), 2)}
    args, expected = given[name]
    return Call(args=args, expected=expected)


@pytest.mark.parametrize("name", ["add", "sqrt", "mean", "gcd"])
def test_names_of_the_standard_library_are_nobodys_answer(pool: SandboxPool, name: str) -> None:
    texts = [text.format(name=name) for text in (METHOD, OTHER, NOTHING)]
    right = f"class Solution:\n    def {name}(self, *args):\n        return {call(name).expected}\n"
    home = {"add": "operator", "mean": "statistics"}.get(name, "math")
    used = f"from {home} import {name}\n"
    jobs = [CallsJob(text, name, (call(name),)) for text in (*texts, right, used)]
    assert [outcome.status for outcome in pool.run(jobs, Limits(), Mounts())] == ["failed"] * 3 + ["passed"] * 2


def test_names_are_there_without_being_imported(pool: SandboxPool) -> None:
    program = "def f(xs):\n    return sqrt(sum(Counter(xs).values())) + len(list(permutations(xs)))\n"
    [outcome] = pool.run([CallsJob(program, "f", (Call(args=([1, 1, 2, 3],), expected=26.0),))], Limits(), Mounts())
    assert outcome.status == "passed", outcome.detail
